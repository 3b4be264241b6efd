#!/usr/bin/env bash
# Packs what proving the GPU engine needs, for a machine with a GPU and without a network: wheels of everything, pycuda among them where
# CUDA's headers are here, in pieces that each lie in a folder of their own, OUT/00, OUT/01, ... `tools/unpack_gpu.sh OUT` is the other half.
#   tools/pack_gpu.sh OUT [MIB]          MIB is a piece's largest size, 48 by itself
# PYTHON must be of the GPU machine's version and architecture: PYTHON=python3.12 tools/pack_gpu.sh out/gpu
set -euo pipefail
out=${1:?usage: tools/pack_gpu.sh OUT [MIB]} mib=${2:-48} python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wheels=$work/wheels
mkdir "$wheels"

"$python" -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install 'setuptools>=70.1' numpy # older ones, as a new environment of Python 3.11 has, make no wheels
# Of calibrate what makes graphs, without what draws its report. pip would build pycuda without the flags that it takes.
"${pip[@]}" wheel --wheel-dir "$wheels" "$root[cpu,nvidia,rtx]" 'onnxruntime>=1.31' pip 'setuptools>=70.1' pytools platformdirs mako
rm -f "$wheels"/edge_agent-*.whl # the GPU machine installs the sources that lie there
built=$root/out/pycuda tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
mkdir -p "$built"
ls "$built"/pycuda-*.tar.gz >"$work/log" 2>&1 ||
    "${pip[@]}" download --no-deps --no-binary pycuda --dest "$built" 'pycuda>=2024.1'
if ls "$built"/pycuda-*-"$tag"-*.whl 2>"$work/log"; then
    echo "pycuda was built before"
elif [ -e "${CUDA_ROOT:-/usr/local/cuda}/include/cuda.h" ]; then
    "$root/tools/gpu/build_pycuda.sh" "$(ls -t "$built"/pycuda-*.tar.gz | head -n 1)" "$built" "$work/venv/bin/python"
else
    echo "no CUDA headers here: pycuda will be built on the GPU machine"
fi
# Of several, as `make prove-gpu` leaves them with the years, the newest: the other half takes one.
cp "$(ls -t "$built"/pycuda-*.tar.gz | head -n 1)" "$wheels/"
if ls "$built"/pycuda-*-"$tag"-*.whl >"$work/log" 2>&1; then cp "$(ls -t "$built"/pycuda-*-"$tag"-*.whl | head -n 1)" "$wheels/"; fi

# A wheel may as well be stored: xz then packs all of them together, which makes far less.
"$python" - "$wheels" <<'STORE'
import sys, zipfile
from pathlib import Path

for wheel in Path(sys.argv[1]).glob("*.whl"):
    stored = wheel.with_suffix(".stored")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(stored, "w", zipfile.ZIP_STORED) as new:
        for item in old.infolist():
            kept = zipfile.ZipInfo(item.filename, item.date_time)
            kept.external_attr = item.external_attr
            new.writestr(kept, old.read(item))
    stored.replace(wheel)
STORE

rm -rf "$out"/[0-9][0-9]
tar -C "$work" -cf - wheels | xz -T0 --x86 --lzma2=preset=1,dict=64MiB | split -d -a 2 -b "${mib}MiB" - "$work/piece."
(cd "$work" && sha256sum piece.?? >SHA256SUMS)
for piece in "$work"/piece.??; do
    folder=$out/${piece##*.}
    mkdir "$folder"
    mv "$piece" "$folder/"
    cp "$work/SHA256SUMS" "$folder/"
done
du -ch --apparent-size "$out"/[0-9][0-9]/piece.*
