#!/usr/bin/env bash
# Builds a wheel of pycuda from its sources: there is none to be had. No GPU is needed, and no driver.
#   tools/gpu/build_pycuda.sh pycuda-VERSION.tar.gz OUT [PYTHON]
# Needs g++, Python's headers, setuptools 70.1 and numpy in PYTHON, and CUDA's cuda.h and cudart under CUDA_ROOT (/usr/local/cuda).
set -euo pipefail
usage='usage: tools/gpu/build_pycuda.sh pycuda-VERSION.tar.gz OUT [PYTHON]'
sources=$(readlink -f "${1:?$usage}") out=$(readlink -f "${2:?$usage}") python=${3:-python3}
cuda=$(readlink -f "${CUDA_ROOT:-/usr/local/cuda}")
[ -e "$cuda/include/cuda.h" ] || { echo "no $cuda/include/cuda.h: install CUDA's toolkit, or name it: CUDA_ROOT=DIR"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -C "$work" -xzf "$sources"
cd "$work"/pycuda-*/

# The driver's library, to link with. Where only a toolkit is installed, an empty one of the same name will do: the real one is found when
# pycuda is imported. A linker that drops what nothing was taken from (--as-needed, the usual thing now) would leave it out altogether.
driver=""
for folder in /usr/lib/x86_64-linux-gnu /usr/lib/aarch64-linux-gnu /usr/lib/aarch64-linux-gnu/nvidia /usr/local/nvidia/lib64 "$cuda/lib64/stubs"; do
    if [ -e "$folder/libcuda.so" ]; then driver=$folder && break; fi
done
if [ -z "$driver" ]; then
    driver=$work/driver
    mkdir "$driver"
    echo 'int nothing;' | gcc -shared -fPIC -x c - -Wl,-soname,libcuda.so.1 -o "$driver/libcuda.so"
fi
export LDSHARED="gcc -shared -Wl,--no-as-needed" LDCXXSHARED="g++ -shared -Wl,--no-as-needed"

# curand is left out, and its header with it: nothing here draws random numbers on the GPU.
cat >siteconf.py <<CONF
CUDA_ROOT = "$cuda"
CUDA_INC_DIR = ["$cuda/include"]
CUDADRV_LIB_DIR, CUDADRV_LIBNAME = ["$driver"], ["cuda"]
CUDART_LIB_DIR, CUDART_LIBNAME = ["$cuda/lib64"], ["cudart"]
CURAND_LIB_DIR, CURAND_LIBNAME = [], []
CUDA_ENABLE_CURAND = CUDA_ENABLE_GL = CUDA_TRACE = False
USE_SHIPPED_BOOST = True
BOOST_INC_DIR, BOOST_LIB_DIR, BOOST_COMPILER = [], [], "gcc43"
BOOST_PYTHON_LIBNAME, BOOST_THREAD_LIBNAME = ["boost_python"], ["boost_thread"]
CXXFLAGS, LDFLAGS = ["-w"], []
CONF
log=$work/log
PATH=$cuda/bin:$PATH "$python" -c '
import os, runpy, sys
from concurrent.futures import ThreadPoolExecutor
from setuptools._distutils.ccompiler import CCompiler

def compile_all(self, sources, output_dir=None, macros=None, include_dirs=None, debug=0, extra_preargs=None, extra_postargs=None, depends=None):
    """As the compiler of setuptools does it, but of one extension many files at once."""
    macros, objects, after, options, build = self._setup_compile(output_dir, macros, include_dirs, sources, depends, extra_postargs)
    words = self._get_cc_args(options, debug, extra_preargs)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = [pool.submit(self._compile, name, *build[name], words, after, options) for name in build]
        for job in jobs:
            job.result()
    return objects

CCompiler.compile = compile_all
sys.path.insert(0, os.getcwd())
sys.argv = ["setup.py", "--quiet", "bdist_wheel", "--dist-dir", sys.argv[1]]
runpy.run_path("setup.py", run_name="__main__")
' "$out" >"$log" 2>&1 || { tail -n 30 "$log"; exit 1; }
ls "$out"/pycuda-*.whl
