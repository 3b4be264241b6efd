#!/usr/bin/env bash
# Proves the GPU engine on the machine it is run on, step by step, and writes a dated report under docs/measurements/.
#   tools/prove_gpu.sh [--steps a,b] [--minutes M] [--dry-run] [--stand-in auto|yes|no] [--images 200] [--inferences 100000]
#                      [--model models/demo-texture] [--candidates DIR] [--out FILE]
# Needs the extras cpu, gpu, nvidia and rtx, and onnxruntime: `make prove-gpu` or tools/unpack_gpu.sh installs them. See docs/gpu.md.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONUNBUFFERED=1
nvidia-smi --query-gpu=name,driver_version,compute_cap,clocks.sm,power.draw --format=csv,noheader 2>/dev/null ||
    echo "nvidia-smi is not here: no NVIDIA driver, none that this shell sees, or a Jetson"
python=${PYTHON:-.venv/bin/python}
[ -x "$(command -v "$python")" ] || {
    echo "$python is not there: run \`make prove-gpu\` or tools/unpack_gpu.sh, or name an interpreter by PYTHON=" >&2
    exit 2
}
exec "$python" tools/prove_gpu.py "$@"
