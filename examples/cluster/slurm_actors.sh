#!/bin/bash
# Self-play on machines that come and go: an array of actors, each a task of its own.
#
#   the learner:  sbatch --job-name=learner --gpus-per-node=1 --cpus-per-task=8 --wrap \
#                   "playout alphazero 'go(size=9)' --games-from /shared/games --run /shared/go"
#   the actors:   RUN=/shared/go GAMES=/shared/games sbatch --array=0-99 slurm_actors.sh
#
# Any of them may be killed at any time: what it has published stays, the rest is played by others.
#SBATCH --job-name=actors
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

: "${RUN:?say which run learns: RUN=/shared/go}"
: "${GAMES:?say where games go: GAMES=/shared/games}"

# exec: the signal reaches playout, which publishes what is finished.
exec playout selfplay --from "$RUN" --into "$GAMES" --threads "$SLURM_CPUS_PER_TASK" --wait 3600 "$@"
