#!/bin/bash
# A training command on several machines of a Slurm cluster: torchrun as it is, a rank a card.
#
#   RUN=/shared/four sbatch slurm_train.sh alphazero connect_four --minutes 600
#   RUN=/shared/words sbatch slurm_train.sh rlhf pretrain --data /shared/corpus.txt --size base
#
# RUN lies on a file system that all machines see. Before its time is over, or when the job is
# preempted, Slurm sends SIGTERM; the ranks save, and the job queues again and goes on.
# On machines without cards: leave out --gpus-per-node and set RANKS, one for each two to four cores.
#SBATCH --job-name=playout
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

: "${RUN:?say where the run lies, on a file system that all machines see: RUN=/shared/run}"
ranks=${RANKS:-${SLURM_GPUS_ON_NODE:-1}}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# torchrun gives its ranks one thread each unless told; they divide the machine's cores.
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / ranks > 0 ? SLURM_CPUS_PER_TASK / ranks : 1))
# After SIGTERM it gives them so many seconds to finish an update and save.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=150

if [ -e "$RUN/run.json" ]; then
  words=()
  case $1 in
    rlhf) words=(rlhf "$2" --resume "$RUN") ;;
    *) words=("$1" --resume "$RUN") ;;
  esac
else
  words=("$@" --run "$RUN")
fi

# So long may saving take after the signal; torchrun's own patience is 30 seconds.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=150

status=0
# The two dashes before playout: torchrun takes --run for short of an option of its own.
srun torchrun \
  --nnodes "$SLURM_JOB_NUM_NODES" \
  --nproc-per-node "$ranks" \
  --rdzv-backend c10d \
  --rdzv-id "$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
  --rdzv-endpoint "$head:${PORT:-29500}" \
  --max-restarts 3 \
  -m -- playout "${words[@]}" || status=$?

# 128 + 15: it was asked to stop, and has saved. torchrun itself then ends with 1.
if [ "$status" -ne 0 ] && [ -e "$RUN/LATEST" ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 50 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
