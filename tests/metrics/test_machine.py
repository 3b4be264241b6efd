"""Temperatures, throttling and memory as the kernel tells them, from a tree laid out like its own; and line statistics."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.metrics.machine import Gpus, of_disk, of_memory, of_temperatures, of_throttling
from edge_agent.plc.statistics import BOUNDS_MS, RECENT_PARTS, Histogram, LineStatistics
from edge_agent.records import NG, PASS, Finding, Judgement


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_hottest_zone_of_each_type_counts(tmp_path: Path) -> None:
    for number, (kind, temp) in enumerate([("cpu", "51000\n"), ("cpu", "62500\n"), ("gpu-thermal", "-1250\n"), ("off", "")]):
        write(tmp_path / f"class/thermal/thermal_zone{number}/type", kind + "\n")
        write(tmp_path / f"class/thermal/thermal_zone{number}/temp", temp)
    told = {labels: value for _, labels, value in of_temperatures(tmp_path)}
    assert told == {("cpu",): 62.5, ("gpu-thermal",): -1.25}


def test_throttling_of_all_cores_adds_up(tmp_path: Path) -> None:
    assert list(of_throttling(tmp_path)) == []
    for core, count in enumerate(("3", "4")):
        write(tmp_path / f"devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count", count)
    assert list(of_throttling(tmp_path)) == [("cpu_throttles_total", (), 7)]


def test_memory_and_disk_are_in_bytes(tmp_path: Path) -> None:
    write(tmp_path / "meminfo", "MemTotal:  2000 kB\nMemFree: 1 kB\nMemAvailable: 500 kB\nHugePages_Total: 0\n")
    assert list(of_memory(tmp_path / "meminfo")) == [("memory_bytes", (), 2048000), ("memory_available_bytes", (), 512000)]
    disk = {name: value for name, _, value in of_disk(tmp_path)}
    assert 0 < disk["disk_free_bytes"] <= disk["disk_bytes"]


@pytest.mark.gpu
def test_a_gpu_tells_its_temperature_memory_and_throttling() -> None:
    told = {name: value for name, _, value in Gpus()()}
    if not told:
        pytest.skip("no NVIDIA GPU answers NVML on this machine")
    assert 10 < told["gpu_temperature_celsius"] < 110
    assert 0 <= told["gpu_memory_used_bytes"] <= told["gpu_memory_bytes"]
    assert told["gpu_throttled"] in (0, 1)


def test_a_machine_without_a_gpu_leaves_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert list(Gpus()()) == []


@pytest.mark.parametrize(("ms", "bucket"), [(0, 0), (0.1, 0), (0.11, 1), (5000, len(BOUNDS_MS) - 1), (5001, len(BOUNDS_MS))])
def test_a_bucket_holds_what_is_not_above_its_bound(ms: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.add(ms)
    assert histogram.counts.index(1) == bucket
    assert histogram.sum_ms == ms


def finding(rule: str, margin: float) -> Finding:
    return Finding(rule=rule, value=0, limit=0, margin=margin, ok=margin >= 0)


def test_margins_are_of_the_parts_that_kept_the_rule_and_of_late() -> None:
    statistics = LineStatistics()
    statistics.note(Judgement(PASS, findings=(finding("area", 1.0),)), 9000.0, 0)
    for _ in range(RECENT_PARTS - 1):
        statistics.note(Judgement(PASS, findings=(finding("area", 7.0), finding("count", 2.0))), 20.0, 0)
    statistics.note(Judgement(NG, findings=(finding("area", -3.0), finding("count", 1.5))), 30.0, 1.0)
    assert statistics.least_margins() == {"area": 7.0, "count": 1.5}  # the first part is too long ago, the last broke the rule
    assert statistics.recent_quantile_ms(1) == 30.0
    assert statistics.recent_quantile_ms(0.5) == 20.0
    assert sum(statistics.verdict.counts) == RECENT_PARTS + 1
    assert sum(statistics.stages["publish"].counts) == 1


def test_without_parts_there_is_no_quantile() -> None:
    assert LineStatistics().recent_quantile_ms(0.99) is None
