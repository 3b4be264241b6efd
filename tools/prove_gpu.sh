#!/usr/bin/env bash
# Proves the GPU engine on the machine it is run on, and writes a dated report under docs/measurements/.
#   tools/prove_gpu.sh [--dry-run] [--inferences 100000] [--images 200] [--model models/demo-texture] [--candidates DIR] [--out FILE]
# Needs the extras cpu, gpu, nvidia and calibrate, and TensorRT or the extra rtx. --dry-run does all that needs no GPU, up to the driver.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,compute_cap,clocks.sm,power.draw --format=csv,noheader ||
    echo "nvidia-smi is not here: no NVIDIA driver, or none that this shell sees"
exec "$python" tools/prove_gpu.py "$@"
