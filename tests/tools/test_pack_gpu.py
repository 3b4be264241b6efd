"""What is packed for a GPU machine without a network is what the other half can install."""

from __future__ import annotations

import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
# A Python that makes environments of itself alone and whose pip fetches nothing.
STUB = f"""#!/bin/sh
case "$*" in
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip "*) ;;
*) exec {sys.executable} "$@" ;;
esac
"""


def test_of_several_builds_of_pycuda_the_newest_alone_is_packed(tmp_path: Path) -> None:
    """Two wheels at once pip refuses, and two archives of sources would be taken for one and the folder to build into."""
    if not shutil.which("xz"):
        pytest.skip("xz is not installed")
    shutil.copytree(TOOLS, tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (built := tmp_path / "out" / "pycuda").mkdir(parents=True)
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for age_s, version in ((0, "2025.1"), (9000, "2026.1"), (5000, "2024.1")):
        (built / f"pycuda-{version}.tar.gz").write_bytes(b"")
        with zipfile.ZipFile(built / f"pycuda-{version}-{tag}-{tag}-linux_x86_64.whl", "w") as wheel:
            wheel.writestr("pycuda/__init__.py", "")
        for file in built.glob(f"pycuda-{version}*"):
            os.utime(file, (2e9 - age_s, 2e9 - age_s))
    (stub := tmp_path / "python").write_text(STUB)
    stub.chmod(0o755)
    command = [tmp_path / "tools" / "pack_gpu.sh", tmp_path / "packed"]
    done = subprocess.run(command, env={**os.environ, "PYTHON": str(stub)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    whole = b"".join(piece.read_bytes() for piece in sorted((tmp_path / "packed").glob("*/piece.??")))
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(whole))) as files:
        packed = {Path(name).name for name in files.getnames() if "pycuda" in name}
    assert packed == {"pycuda-2025.1.tar.gz", f"pycuda-2025.1-{tag}-{tag}-linux_x86_64.whl"}
