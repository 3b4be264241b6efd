"""The machine's own numbers: temperatures, throttling, memory, disk. What a machine does not tell is left out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Sample = tuple[str, tuple[str, ...], float]  # name in the table, labels, value
_SYS = Path("/sys")
_KIB = 1024
_GPU_SLOW = {  # bits of NVML's clocks event reasons that mean: slower than it could
    "power_cap": 0x4,
    "hardware_slowdown": 0x8,
    "software_thermal": 0x20,
    "hardware_thermal": 0x40,
    "power_brake": 0x80,
}


def of_disk(folder: Path) -> Iterator[Sample]:
    usage = shutil.disk_usage(folder)
    yield "disk_bytes", (), usage.total
    yield "disk_free_bytes", (), usage.free


def of_memory(meminfo: Path = Path("/proc/meminfo")) -> Iterator[Sample]:
    lines = (line.split() for line in meminfo.read_text().splitlines())
    kib = {words[0]: int(words[1]) for words in lines if len(words) > 1}
    yield "memory_bytes", (), kib["MemTotal:"] * _KIB
    yield "memory_available_bytes", (), kib["MemAvailable:"] * _KIB


def of_temperatures(sys: Path = _SYS) -> Iterator[Sample]:
    """Every thermal zone that can be read, by its type; of several of one type the hottest."""
    hottest: dict[str, float] = {}
    for zone in sorted(sys.glob("class/thermal/thermal_zone*")):
        try:
            name, celsius = (zone / "type").read_text().strip(), int((zone / "temp").read_text()) / 1000
        except (OSError, ValueError):
            continue  # a zone that is switched off answers with an error
        hottest[name] = max(hottest.get(name, celsius), celsius)
    yield from (("temperature_celsius", (name,), celsius) for name, celsius in hottest.items())


def of_throttling(sys: Path = _SYS) -> Iterator[Sample]:
    counts = []
    for file in sys.glob("devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"):
        try:
            counts.append(int(file.read_text()))
        except (OSError, ValueError):
            continue
    if counts:
        yield "cpu_throttles_total", (), sum(counts)


class Gpus:
    """The NVIDIA GPUs of this machine, by NVML; none where its library or driver is missing."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
            self._nvml = pynvml
        except pynvml.NVMLError:
            self._handles = []

    def __call__(self) -> Iterator[Sample]:
        for number, handle in enumerate(self._handles):
            try:
                yield from self._of(str(number), handle)
            except self._nvml.NVMLError:
                continue  # a GPU that fell off the bus answers no more; what it said before stays

    def _of(self, gpu: str, handle: Any) -> Iterator[Sample]:
        nvml = self._nvml
        yield "gpu_temperature_celsius", (gpu,), nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        yield "gpu_memory_bytes", (gpu,), memory.total
        yield "gpu_memory_used_bytes", (gpu,), memory.used
        reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        yield from (("gpu_throttled", (gpu, name), float(bool(reasons & bit))) for name, bit in _GPU_SLOW.items())
