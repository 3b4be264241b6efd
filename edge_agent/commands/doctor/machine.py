"""Looks at the machine itself: Python, libraries, GPU, kernel limits, clock, disk. Each takes well under two seconds."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import math
import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_agent.camera_settings import AravisCamera
from edge_agent.commands.doctor.cameras import Machine
from edge_agent.commands.doctor.looks import Look, note, problem, well
from edge_agent.inference.tensorrt.api import LIBRARIES as TENSORRT
from edge_agent.settings import AutoEngine, CpuEngine, EngineSettings, Station, TensorRtEngine

LIBRARIES = (
    "numpy",
    "opencv-python-headless",
    "pyzmq",
    "msgspec",
    "pyyaml",
    "apsw",
    "sqlalchemy",
    "fsspec",
    "imagesize",
    "structlog",
    "logging-journald",
    "rich",
    "prometheus-client",
)
_FOR_CPU = ("openvino", "onnx")
_GPU_NODES = (Path("/dev/nvidia0"), Path("/dev/nvhost-gpu"), Path("/dev/nvgpu"))
_FLUSHES, _MOST_FLUSHING_S = 64, 1.0
_SLOW_FLUSH_MS = 100.0
_STA_UNSYNC = 0x40  # of struct timex, <sys/timex.h>
_MOST_CLOCK_ERROR_MS = 100.0


def of_python() -> Iterator[Look]:
    told = f"{platform.python_version()} at {sys.executable}, Linux {platform.release()} on {platform.machine()}"
    if sys.version_info >= (3, 10):  # noqa: UP036  # somebody may start the code with any
        yield well("python", told)
    else:
        yield problem("python", told, "install Python 3.10 or newer, and make a virtual environment with it")


def of_libraries(station: Station | None) -> Iterator[Look]:
    """Every library the station needs, with its version; what the settings' engine needs beside."""
    needs_cpu = station is None or isinstance(station.settings.engine, CpuEngine)
    versions = {name: _version(name) for name in (*LIBRARIES, *_FOR_CPU)}
    missing = [name for name in LIBRARIES if not versions[name]]
    yield well("libraries", ", ".join(f"{name} {version}" for name, version in versions.items() if version))
    if missing:
        yield problem("libraries", f"{', '.join(missing)} missing", f"pip install {' '.join(missing)}")
    lacking = [name for name in _FOR_CPU if not versions[name]]
    if lacking and needs_cpu:
        make = note if station is None else problem
        yield make("libraries", f"{', '.join(lacking)} missing, which engine.kind cpu needs", "pip install 'edge-agent[cpu]'")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def of_gpu(station: Station | None) -> Iterator[Look]:
    """GPU, driver and TensorRT: what `engine.kind` tensorrt lacks is a problem, auto a note; the engine on the CPU needs none."""
    engine = station.settings.engine if station is not None else None
    unneeded = "; an engine on the CPU needs none" if engine is None or isinstance(engine, CpuEngine) else ""
    yield from _of_driver(engine, unneeded)
    yield from of_tensorrt(engine, unneeded)


def _of_driver(engine: EngineSettings | None, unneeded: str) -> Iterator[Look]:
    is_seen = shutil.which("nvidia-smi") is not None or any(node.exists() for node in _GPU_NODES)
    try:
        import pynvml
    except ImportError:
        if is_seen:
            yield note("gpu", "there seems to be one, and nothing can ask it", "pip install 'edge-agent[nvidia]'")
        else:
            yield _no_gpu(f"no NVIDIA GPU seen{unneeded}", engine)
        return
    try:
        found = list(_gpus(pynvml))
    except pynvml.NVMLError as error:
        if any(node.exists() for node in _GPU_NODES):
            told = f"there is one, and NVML does not answer ({error}); a Jetson's may have none"
            yield note("gpu", told, "nvidia-smi; on a Jetson never mind: what is said of the engine counts")
        else:
            yield _no_gpu(f"no NVIDIA GPU answers ({error}){unneeded}", engine)
        return
    yield from (well("gpu", told) for told in found)
    if not found:
        yield _no_gpu(f"the driver knows of no NVIDIA GPU{unneeded}", engine)


def _gpus(pynvml: Any) -> Iterator[str]:
    """Each GPU in words. Raises NVMLError."""
    pynvml.nvmlInit()
    driver = pynvml.nvmlSystemGetDriverVersion()
    for number in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        celsius = pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
        yield f"{number}: {pynvml.nvmlDeviceGetName(handle)}, {memory.total >> 20} MiB, {celsius} degrees, driver {driver}"


def _no_gpu(told: str, engine: EngineSettings | None) -> Look:
    remedy = "install the NVIDIA driver and restart, until nvidia-smi shows the GPU; or set engine: {kind: cpu}"
    match engine:
        case TensorRtEngine():
            return problem("gpu", f"{told}, which engine.kind tensorrt needs", remedy)
        case AutoEngine():
            return note("gpu", f"{told}: engine.kind auto takes the CPU", remedy)
        case _:
            return well("gpu", told)


def of_tensorrt(engine: EngineSettings | None, unneeded: str = "") -> Iterator[Look]:
    """Which of the two libraries is here, and pycuda; what `engine` lacks is a problem, or a note where it can do without."""
    found = {name: _version(name) or _version(f"{name}_cu13") or _version(f"{name}_cu12") for name in TENSORRT}
    yield well("tensorrt", ", ".join(f"{name} {told}" for name, told in found.items() if told) or f"not installed{unneeded}")
    if not isinstance(engine, TensorRtEngine | AutoEngine):
        return
    make = problem if isinstance(engine, TensorRtEngine) else note
    wanted = (engine.library,) if isinstance(engine, TensorRtEngine) and engine.library != "auto" else TENSORRT
    needed = f"which engine.kind {type(engine).__struct_config__.tag} needs"
    if not any(_is_there(name) for name in wanted):
        remedy = "pip install tensorrt-cu12, or 'edge-agent[rtx]' for an RTX GPU; on a Jetson a virtual environment with "
        remedy += "--system-site-packages. See docs/gpu.md, Installing"
        yield make("tensorrt", f"{' or '.join(wanted)} missing, {needed}", remedy)
    if not _is_there("pycuda"):
        yield make("tensorrt", f"pycuda missing, {needed}", "pip install 'edge-agent[gpu]'")


def _is_there(name: str) -> bool:
    """Whether it can be imported, without doing so."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None


def of_kernel(station: Station | None, machine: Machine) -> Iterator[Look]:
    """What GigE cameras need of the kernel; the settings' cameras have their own words about it in the files' part."""
    has_aravis = station is not None and any(isinstance(camera, AravisCamera) for camera in station.settings.cameras)
    matters = "" if has_aravis else "; matters to GigE Vision cameras alone"
    yield well("aravis", f"the library is here{matters}" if not machine.lacks_library else f"{machine.lacks_library}{matters}")
    allowed = f"{machine.whose} may open one" if machine.has_net_raw else f"{machine.whose} has no CAP_NET_RAW"
    yield well("packet socket", f"{allowed}{matters}")
    yield well("kernel buffers", f"net.core.rmem_max is {machine.rmem_max} bytes{matters}")


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>, as far as it is read; the rest is room."""

    _fields_ = [
        ("modes", ctypes.c_int),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_byte * 256),
    ]


def of_clock() -> Iterator[Look]:
    """Whether the kernel's clock is disciplined: chrony, ntpd, timesyncd and ptp4l with phc2sys all tell the kernel."""
    timex = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
        yield note("clock", f"the kernel does not tell: {os.strerror(ctypes.get_errno())}", "look with timedatectl")
        return
    yield clock_look(bool(timex.status & _STA_UNSYNC), timex.maxerror / 1000)


def clock_look(is_unsynchronized: bool, error_ms: float) -> Look:
    """Deadlines run by the monotonic clock; a wall clock that is wrong makes records of several stations disagree."""
    remedy = "run chrony or systemd-timesyncd: timedatectl set-ntp true"
    if is_unsynchronized:
        return note("clock", "not synchronized: the times in records may be wrong; deadlines do not depend on it", remedy)
    if error_ms > _MOST_CLOCK_ERROR_MS:
        return note("clock", f"synchronized, but perhaps {error_ms:.0f} ms off, above {_MOST_CLOCK_ERROR_MS:.0f} ms", remedy)
    return well("clock", f"synchronized, at most {error_ms:.1f} ms off")


def of_state(station: Station) -> Iterator[Look]:
    """Can the state folder be written, has its disk the room that the settings promise, how long does a flush take?"""
    state = station.path(station.settings.state)
    if is_closed(state):
        told = f"this user may not look into {state}: what is chosen and built there is not known, and its disk is not measured"
        yield note("state folder", told, "run it with sudo")
        return
    here = next(folder for folder in (state, *state.parents) if os.path.exists(folder))  # noqa: PTH110  # Path's fails where closed
    if not os.access(here, os.W_OK | os.X_OK, effective_ids=True):
        remedy = "run it with sudo, or as the user the station runs as, whose folder it must be"
        yield note("state folder", f"{here} cannot be written by this user, so that its disk is not measured", remedy)
        return
    settings = station.settings
    wanted = (settings.uplink.outbox_cap_mb << 20) + settings.journal_parts * 4096
    used = sum(file.stat().st_size for file in state.rglob("*") if file.is_file()) if state.exists() else 0
    free = shutil.disk_usage(here).free
    told = f"{here}: {free >> 20} MiB free; outbox and journal may take {max(0, wanted - used) >> 20} MiB more"
    if free < wanted - used:
        yield note(
            "disk", f"{told}: results are let go before the outbox reaches its cap", "free space, or lower uplink.outbox_cap_mb"
        )
    else:
        yield well("disk", told)
    yield _flush_look(here)


def is_closed(folder: Path) -> bool:
    """True for a folder that is there, or may be there, and that this user may not look into."""
    try:
        folder.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(folder, os.R_OK | os.X_OK, effective_ids=True)


def _flush_look(folder: Path) -> Look:
    try:
        slow_ms = flush_quantile_ms(folder)
    except OSError as error:
        return problem(
            "disk speed", f"{folder} cannot be flushed to: {error.strerror}", "free space there, or look at the disk: dmesg"
        )
    told = f"99 of 100 flushes (fsync) of {folder} take at most {slow_ms:.1f} ms"
    if slow_ms > _SLOW_FLUSH_MS:
        remedy = "a better disk; verdicts do not wait for it, but after a power cut more of the last parts are missing"
        return note("disk speed", f"{told}, above {_SLOW_FLUSH_MS:.0f} ms", remedy)
    return well("disk speed", told)


def flush_quantile_ms(folder: Path) -> float:
    """Write and fsync 4 KiB `_FLUSHES` times, at most about a second; the 99th percentile in ms. Raises OSError."""
    file = folder / f".edge-agent-check-{uuid.uuid4().hex}"
    took: list[float] = []
    try:
        with open(file, "wb", buffering=0) as out:
            until = time.monotonic() + _MOST_FLUSHING_S
            while len(took) < _FLUSHES and (not took or time.monotonic() < until):
                began = time.monotonic()
                out.write(b"\0" * 4096)
                os.fsync(out.fileno())
                took.append((time.monotonic() - began) * 1000)
    finally:
        file.unlink(missing_ok=True)
    return sorted(took)[math.ceil(len(took) * 0.99) - 1]
