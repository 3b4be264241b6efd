#!/usr/bin/env bash
# Proves the GPU engine on the machine it is run on, step by step, and writes a dated report under docs/measurements/.
#   tools/prove_gpu.sh [--steps a,b] [--minutes M] [--dry-run] [--stand-in auto|yes|no] [--images 200] [--inferences 100000]
#                      [--model models/demo-texture] [--candidates DIR] [--out FILE]
# Needs the extras cpu, gpu, nvidia and rtx, and onnxruntime: `make prove-gpu` or tools/unpack_gpu.sh installs them. See docs/gpu.md.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
export PYTHONUNBUFFERED=1
case " $* " in
*" --help "* | *" -h "*)
    "$python" "$root/tools/gpu/prove_gpu.py" --help 2>/dev/null && exit 0
    sed -n '2,5s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
nvidia-smi --query-gpu=name,driver_version,compute_cap,clocks.sm,power.draw --format=csv,noheader 2>/dev/null ||
    echo "nvidia-smi is not here: no NVIDIA driver, none that this shell sees, or a Jetson"
[ -x "$(command -v "$python")" ] || {
    echo "$python is not there: run \`make prove-gpu\` or tools/unpack_gpu.sh, or name an interpreter by PYTHON=" >&2
    exit 2
}
exec "$python" "$root/tools/gpu/prove_gpu.py" "$@"
