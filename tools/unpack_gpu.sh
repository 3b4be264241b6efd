#!/usr/bin/env bash
# Makes the virtual environment that `tools/prove_gpu.sh` needs from what `tools/pack_gpu.sh` packed, without a network.
#   tools/unpack_gpu.sh FROM [VENV]      FROM holds the pieces, each in a folder of its own or all beside each other; VENV is .venv
# PYTHON must be the version that was packed for. pycuda is built here where its wheel is missing or does not load.
set -euo pipefail
from=$(cd "${1:?usage: tools/unpack_gpu.sh FROM [VENV]}" && pwd) venv=${2:-.venv} python=${PYTHON:-python3}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

find "$from" -name 'piece.??' -exec ln -s {} "$work/" \;
sums=$(find "$from" -name SHA256SUMS | head -n 1)
[ -n "$sums" ] || { echo "no SHA256SUMS under $from: is that what tools/pack_gpu.sh wrote?"; exit 1; }
(cd "$work" && sha256sum --quiet --check "$sums")
cat "$work"/piece.?? | "$python" -c '
import lzma, sys, tarfile
with lzma.open(sys.stdin.buffer) as whole, tarfile.open(fileobj=whole, mode="r|") as files:
    files.extractall(sys.argv[1], filter="data")
' "$work"
wheels=$work/wheels

"$python" -m venv --without-pip "$venv" # whether ensurepip is here or not: pip comes along
venv=$(cd "$venv" && pwd)
pip() { "$venv/bin/python" "$(ls "$wheels"/pip-*.whl)/pip" --disable-pip-version-check --quiet install --no-index --find-links "$wheels" "$@"; }
pip setuptools numpy pip pytools platformdirs mako # the first two build pycuda, the others are what it needs
loads() { pip --no-deps "$wheels"/pycuda-*.whl && "$venv/bin/python" -c 'import pycuda.driver'; }
if ! ls "$wheels"/pycuda-*.whl >"$work/log" 2>&1 || { ! loads >"$work/log" 2>&1 && ! grep -q 'libcuda.so.1: cannot open' "$work/log"; }; then
    echo "pycuda is built here: $(tail -n 1 "$work/log")"
    rm -f "$wheels"/pycuda-*.whl
    tools/gpu/build_pycuda.sh "$wheels"/pycuda-*.tar.gz "$wheels" "$venv/bin/python"
fi
pip --no-build-isolation -e '.[cpu,nvidia,rtx]' && pip onnxruntime pycuda
"$venv/bin/python" -c 'import pycuda.driver as driver; print("pycuda for CUDA", ".".join(map(str, driver.get_version())))' ||
    echo "everything is installed, but no driver is here"
