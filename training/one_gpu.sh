#!/usr/bin/env bash
# Train the direct path on one GPU and build a pipeline with it:
#   training/one_gpu.sh PACKS OUTPUT --minutes 10 [options of training/train_direct.py]
# After a break the same command with --resume continues; the time of both sessions counts.
# PACKS is a folder that training/pack_faces.py wrote. Python needs this package with its extra "train".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
packs=$1 output=$2
shift 2
python -m training.train_direct "$packs" "$output" "$@"
python -m training.add_direct_path keep-tiny "$output/direct.safetensors" "$output/pipeline"
