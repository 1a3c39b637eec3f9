#!/bin/bash
# A training command on several machines of a Slurm cluster: torchrun as it is, a rank a card.
#
#   RUN=/shared/four sbatch slurm_train.sh alphazero connect_four --minutes 600
#   RUN=/shared/words sbatch slurm_train.sh rlhf pretrain --data /shared/corpus.txt --size base
#
# RUN lies on a file system that all machines see; a run that is there already goes on. Before the
# time is over the ranks are asked to save; the job queues again and goes on from there, as it does
# where Slurm itself queues it again after a preemption. A job that fails is not repeated.
# On machines without cards: leave out --gpus-per-node and set RANKS, one for each two to four cores.
#SBATCH --job-name=playout
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

: "${RUN:?say where the run lies, on a file system that all machines see: RUN=/shared/run}"
ranks=${RANKS:-${SLURM_GPUS_ON_NODE:-1}}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# torchrun gives its ranks one thread each unless told; they divide the machine's cores.
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / ranks > 0 ? SLURM_CPUS_PER_TASK / ranks : 1))
# So long may saving take after SIGTERM; torchrun's own patience is 30 seconds.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=150

# A run goes on with the same words; what is typed again has to be as it was.
place=--run
[ -e "$RUN/run.json" ] && place=--resume

# The warning comes to this script alone (B:); torchrun is asked to end by SIGTERM.
warned=
trap 'warned=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1
trap : TERM # who cancels or preempts the job asks torchrun as well, and this script waits for it

# The two dashes before playout: torchrun takes --run for short of an option of its own.
srun torchrun \
  --nnodes "$SLURM_JOB_NUM_NODES" \
  --nproc-per-node "$ranks" \
  --rdzv-backend c10d \
  --rdzv-id "$SLURM_JOB_ID" \
  --rdzv-endpoint "$head:${PORT:-29500}" \
  --max-restarts 3 \
  -m -- playout "$@" "$place" "$RUN" &
step=$!

while kill -0 "$step" 2> /dev/null; do # a signal ends a wait before the step has ended
  wait "$step" || :
done
status=0 # asked once more: the last answer may have been that of a signal
wait "$step" || status=$?

if [ "$status" -ne 0 ] && [ -n "$warned" ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 50 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
