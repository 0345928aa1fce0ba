#!/usr/bin/env bash
# Train on several machines without a scheduler: run this on each of them, with the same arguments.
#
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=host0 bash experiments/cluster/torchrun.sh mimic_cxr data.corpora.0.root=/data/mimic
#   NNODES=2 NODE_RANK=1 MASTER_ADDR=host0 bash experiments/cluster/torchrun.sh mimic_cxr data.corpora.0.root=/data/mimic
#
# NNODES       machines (1)
# NODE_RANK    number of this machine, from 0 (0)
# MASTER_ADDR  name or address of machine 0 that the others reach (127.0.0.1)
# MASTER_PORT  a free port there (29500)
# DEVICES      processes on each machine, one per GPU (the GPUs that nvidia-smi lists, else 1)
# VERB         train or eval (train)
# PYTHON       the interpreter of the environment (python)
#
# run_dir must lie where all machines see it; cache_dir may lie on each machine's own disk (docs/scaling.md).
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: [NNODES=.. NODE_RANK=.. MASTER_ADDR=..] $0 EXPERIMENT key=value ..." >&2; exit 2; }
NNODES=${NNODES:-1}
DEVICES=${DEVICES:-$(nvidia-smi -L 2>/dev/null | grep -c . || true)}
[ "$DEVICES" -gt 0 ] || DEVICES=1
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes "$NNODES" --node-rank "${NODE_RANK:-0}" --nproc-per-node "$DEVICES" \
  --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${MASTER_PORT:-29500}" \
  -m radz "${VERB:-train}" "$@" trainer.num_nodes="$NNODES" trainer.devices="$DEVICES"
