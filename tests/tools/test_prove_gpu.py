"""The tool that proves the engine on a GPU, with everything but the GPU: its kernels are computed by `fake_box`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")

ROOT = Path(__file__).parents[2]
BOX = Path(__file__).with_name("fake_box")
SIDE = 32


@pytest.fixture
def prove(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a file of tools/gpu/ or tools/gpu/stand_in/ by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "gpu" / "stand_in"))
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "gpu"))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    return importlib.import_module


@pytest.fixture
def run(prove: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs prove_gpu.py; returns its exit code and its report."""
    tool = prove("prove_gpu")
    monkeypatch.setattr(tool, "write_model", partial(tool.write_model, side=SIDE))

    def start(*words: str) -> tuple[int, str]:
        out = tmp_path / "report.md"
        code = tool.main([*words, "--work", str(tmp_path / "work"), "--out", str(out)])
        return code, out.read_text()

    return start


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU in every process that is started."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (BOX, ROOT, ROOT / "tests"))))


def states(report: str) -> dict[str, str]:
    """By title, of the table of steps."""
    rows = [line.split(" | ") for line in report.splitlines() if line.startswith("| ")]
    return {row[0].removeprefix("| "): row[1] for row in rows if row[1] in ("proved", "skipped", "NOT PROVED")}


def seen(report: str, title: str) -> str:
    return next(line for line in report.splitlines() if line.startswith(f"| {title}"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("box")
def test_a_stand_in_goes_on_where_tensorrt_refuses_the_gpu(run: Callable[..., tuple[int, str]]) -> None:
    code, report = run("--steps", "machine,engine,parity", "--images", "4")
    found = states(report)
    assert found["A GPU that answers"] == "proved"
    assert found["The engine is built, opened, checked and kept warm"] == "NOT PROVED"
    assert "**A stand-in ran, not TensorRT**" in report
    assert found["The engine is built, opened, checked and kept warm (stand-in)"] == "proved"
    assert found["Maps as the CPU's in FP32, at every precision (stand-in)"] == "proved"
    assert "to the pixel what the stand-in's table says" in report
    assert code == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("box")
def test_a_stand_in_is_measured_as_an_engine_is(run: Callable[..., tuple[int, str]]) -> None:
    code, report = run("--steps", "graph,overlap,overhead,growth,benchmark", "--stand-in", "yes", "--inferences", "60")
    found = states(report)
    assert found["Graph against plain enqueue (stand-in)"] == "proved"
    assert found["No growth of memory (stand-in)"] == "proved"
    assert found["The table of every precision and batch (stand-in)"] == "proved"
    assert "| 16 |" in report.split("## The stand-in by batch")[1]
    # This GPU does one thing after another, so that a step which finds an overlap on it would be no proof.
    assert found["Copies overlap computing, by events (stand-in)"] == "NOT PROVED"
    assert "0 of 122 copies" in seen(report, "Copies overlap computing, by events (stand-in)")
    assert "the host takes p50" in seen(report, "The host's share of an inference (stand-in)")
    assert code == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("box")
def test_a_gpu_lost_under_the_daemon_is_told(run: Callable[..., tuple[int, str]]) -> None:
    code, report = run("--steps", "fault", "--stand-in", "yes")
    told = seen(report, "A GPU that is lost under the daemon (stand-in)")
    assert "FAULT engine; engine.lost is logged 1 times; exit code 1" in told, report
    assert code == 0


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("box")
def test_an_engine_without_a_graph_is_a_failed_step_and_the_next_goes_on(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BOX_FAIL", "begin")
    code, report = run("--steps", "graph,parity", "--stand-in", "yes", "--images", "2", "--inferences", "20")
    assert "there is no graph" in seen(report, "Graph against plain enqueue (stand-in)")
    assert states(report)["Maps as the CPU's in FP32, at every precision (stand-in)"] == "proved"
    assert code == 1


def test_without_a_gpu_the_reason_is_told_and_the_rest_skipped(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "none" / "pycuda").mkdir(parents=True)
    (tmp_path / "none" / "pycuda" / "__init__.py").write_text("raise ImportError('libcuda.so.1 is not there')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "none"), str(ROOT)]))
    code, report = run("--steps", "machine,engine,fault")
    assert "libcuda.so.1 is not there" in seen(report, "A GPU that answers")
    assert list(states(report).values()) == ["NOT PROVED", "skipped", "skipped"]
    assert code == 1


def test_what_is_not_installed_is_skipped_and_no_failure(
    run: Callable[..., tuple[int, str]], prove: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "without_rtx.py"
    script.write_text(
        "import importlib.util, sys\n"
        f"sys.path[:0] = [{str(ROOT / 'tools' / 'gpu')!r}, {str(ROOT)!r}]\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'tensorrt_rtx' else real(name, *more)\n"
        "import prove_steps\nprove_steps.main()\n"
    )
    monkeypatch.setattr(prove("prove_gpu"), "STEP_FILE", script)
    code, report = run("--dry-run")
    assert set(states(report)) == {"Built ahead for GPUs that are not here", "Every precision built ahead"}
    assert report.count("| skipped | tensorrt_rtx is not here |") == 2
    assert code == 0


STEP = """
import json, os, signal, sys, time
name, file = sys.argv[1:]
if name == "ahead":
    os.abort()
if name == "precisions":
    print("about to hang", flush=True)
    time.sleep(600)
json.dump({"state": "proved", "told": "a|b", "sheets": [{"title": "T", "columns": ["c"], "rows": [["1"]]}]}, open(file, "w"))
"""


def test_a_step_that_dies_or_hangs_is_told_and_the_report_has_every_step_so_far(
    run: Callable[..., tuple[int, str]], prove: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = prove("prove_gpu")
    (tmp_path / "step.py").write_text(STEP)
    monkeypatch.setattr(tool, "STEP_FILE", tmp_path / "step.py")
    monkeypatch.setattr(
        tool,
        "STEPS",
        tuple(tool.Step(step.name, step.title, 2 if step.name == "precisions" else 60, step.on_gpu) for step in tool.STEPS),
    )
    monkeypatch.setattr(tool, "_LEAST_S", 1)
    written: list[int] = []
    write = tool.Report.write
    monkeypatch.setattr(tool.Report, "write", lambda self: (write(self), written.append(len(self.lines)))[0])
    code, report = run("--steps", "ahead,precisions,machine")
    assert written[:3] == [1, 2, 3]
    assert "its process ended by signal 6, SIGABRT" in seen(report, "Built ahead for GPUs that are not here")
    assert "no end within 2 s: about to hang" in seen(report, "Every precision built ahead")
    assert "| A GPU that answers | proved | a/b |" in report
    assert "## T\n\n| c |\n|---|\n| 1 |" in report
    assert code == 1


def test_when_the_time_is_over_the_rest_is_left_for_another_run(run: Callable[..., tuple[int, str]]) -> None:
    code, report = run("--dry-run", "--minutes", "0.01")
    assert report.count("the time was over: run it by --steps") == 2
    assert code == 0


def test_an_unknown_step_is_refused(run: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--steps", "engine,warp")
    assert ended.value.code == 2
    assert "warp is none of ahead" in capsys.readouterr().err


def test_a_dry_run_with_nothing_to_do_is_refused(run: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--dry-run", "--steps", "engine,daemon")
    assert ended.value.code == 2
    assert "without a GPU there are ahead, precisions" in capsys.readouterr().err


def test_a_copy_is_hidden_when_another_slot_computes_around_it(prove: Callable[[str], ModuleType]) -> None:
    hidden_copies: Any = prove("prove_timing").hidden_copies
    one_after_another = [[[0, 1, 5, 6]], [[6, 7, 11, 12]]]
    assert hidden_copies(one_after_another) == (0, 4)
    beside = [[[0, 1, 5, 6]], [[2, 3, 8, 9]]]
    assert hidden_copies(beside) == (2, 4)  # the second slot's copy to the GPU, the first's back


def test_the_kernels_are_right_for_batches_too(prove: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """PTX, thread by thread: sizes that fill no block, several turns, several pictures."""
    monkeypatch.syspath_prepend(str(BOX))
    stand_in, ptx = prove("tensorrt"), importlib.import_module("ptx")
    module = ptx.Module(stand_in.ptx_of(200.0, 0.1))
    frames = np.random.default_rng(3).integers(0, 256, (3, 7, 11), dtype=np.uint8)
    maps, brightest, peaks = np.zeros_like(frames), np.zeros(3, np.uint32), np.full(3, np.nan, np.float32)
    pixels = frames[0].size
    ptx.run(module, "look", (2, 3), 16, [frames.ctypes.data, maps.ctypes.data, brightest.ctypes.data, pixels, 2])
    ptx.run(module, "peak", (1, 1), 3, [brightest.ctypes.data, peaks.ctypes.data])
    levels, logits = stand_in.tables(200.0, 0.1)
    assert (maps == levels[frames]).all()
    assert (peaks == logits[frames.reshape(3, -1).max(axis=1)]).all()


def test_the_stand_in_takes_its_own_network_alone(prove: Callable[[str], ModuleType]) -> None:
    from edge_agent.errors import ConfigurationError
    from edge_agent.inference.model import load_model
    from edge_agent.inference.tensorrt.api import BuildOptions, Library, build_plan
    from edge_agent.inference.tensorrt.network import network_of

    stand_in = prove("tensorrt")
    library = Library(stand_in, "tensorrt", stand_in.__version__)
    with pytest.raises(ConfigurationError, match="its own network and no other"):
        build_plan(library, network_of(load_model(ROOT / "models" / "demo-texture")).onnx, BuildOptions())


@pytest.mark.parametrize(
    "words",
    [("--minutes", "-1"), ("--minutes", "nan"), ("--images", "0"), ("--out", "."), ("--model", "tests"), ("--candidates", "tests")],
)
def test_what_makes_no_sense_is_refused_before_any_step(
    prove: Callable[[str], ModuleType], words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        prove("prove_gpu").parse(words)
    assert words[0] in capsys.readouterr().err.splitlines()[-1]


def test_a_dry_run_is_no_measurement(prove: Callable[[str], ModuleType], tmp_path: Path) -> None:
    tool = prove("prove_gpu")
    assert tool.parse(["--dry-run", "--work", str(tmp_path)]).out == tmp_path / "dry.md"
    assert tool.parse([]).out.parent == ROOT / "docs" / "measurements"


@pytest.mark.parametrize("file", ["Makefile", "tools/pack_gpu.sh"])
def test_what_builds_pycuda_asks_for_a_setuptools_that_makes_wheels(file: str) -> None:
    """A new environment of Python 3.10 or 3.11 has one that makes none, and pip is content with it."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if "install" in line and "setuptools" in line]
    assert lines
    assert all("'setuptools>=70.1'" in line for line in lines)
