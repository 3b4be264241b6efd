"""Proves the TensorRT engine on a real GPU, step by step, each in a process of its own and with a time limit.

The report is written anew after every step; one that fails, hangs or dies does not stop the others. Where TensorRT refuses the GPU,
a stand-in does the rest (tools/gpu/stand_in): CUDA kernels in the network's place, everything around it the station's own.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import msgspec
from proving import ROOT, TOOLS, Answer, Order
from stand_in_model import write_model

STEP_FILE = TOOLS / "prove_steps.py"
_LEAST_S = 10.0  # a step is not begun with less
_TENSORRT = ("tensorrt", "tensorrt_cu13", "tensorrt_cu12", "tensorrt_rtx")  # a Jetson's own has no suffix, NVIDIA's wheels one
_PACKAGES = ("edge-agent", "pycuda", *_TENSORRT, "openvino", "onnxruntime", "onnx", "numpy", "nvidia-ml-py")
_STAND_IN = "stand-in"


@dataclass(frozen=True, slots=True)
class Step:
    """`on_gpu` is tried only where the machine has answered; a stand-in does it where TensorRT refuses."""

    name: str
    title: str
    most_s: float
    on_gpu: bool = True


STEPS = (
    Step("ahead", "Built ahead for GPUs that are not here", 300, on_gpu=False),
    Step("precisions", "Every precision built ahead", 300, on_gpu=False),
    Step("machine", "A GPU that answers", 60),
    Step("engine", "The engine is built, opened, checked and kept warm", 540),
    Step("parity", "Maps as the CPU's in FP32, at every precision", 540),
    Step("graph", "Graph against plain enqueue", 240),
    Step("overlap", "Copies overlap computing, by events", 240),
    Step("overhead", "The host's share of an inference", 240),
    Step("fault", "A GPU that is lost under the daemon", 180),
    Step("daemon", "The daemon against engine and plumbing", 300),
    Step("growth", "No growth of memory", 540),
    Step("benchmark", "The table of every precision and batch", 540),
)
NAMES = tuple(step.name for step in STEPS)


@dataclass
class Report:
    """Steps with what they saw; `write` is called after each."""

    file: Path
    head: list[str]
    lines: list[str] = field(default_factory=list)
    sheets: list[str] = field(default_factory=list)
    failed: int = 0
    note: str = ""

    def add(self, title: str, answer: Answer, seconds: float) -> None:
        self.failed += answer.state == "NOT PROVED"
        self.lines.append(_row([title, answer.state, answer.told, f"{seconds:.1f}"]))
        print(f"[{answer.state}] {title}: {_flat(answer.told)} ({seconds:.1f} s)", flush=True)
        for sheet in answer.sheets:
            if sheet.rows:
                self.sheets += ["", f"## {sheet.title}", "", *_table(sheet.columns, sheet.rows)]
        self.write()

    def write(self) -> None:
        note = [self.note, ""] if self.note else []
        steps = ["| step | state | seen | s |", "|---|---|---|---|", *self.lines]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("\n".join([*self.head, *note, *steps, *self.sheets]) + "\n")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(columns), "|---" * len(columns) + "|", *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_flat, cells))} |"


def _flat(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def head_of(words: Sequence[str]) -> list[str]:
    """Title, command, and what is installed; the GPU stands in the steps."""
    now = datetime.now(timezone.utc)
    versions = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    machine = f"{len(os.sched_getaffinity(0))} x {platform.machine()}, {platform.system()} {platform.release()}"
    command = shlex.join(["tools/prove_gpu.sh", *words])
    return [
        f"# The GPU engine, {now:%Y-%m-%d}",
        "",
        f"Measured at {now:%H:%M} UTC by `{command}` on {machine}, Python {platform.python_version()}, {', '.join(versions)}.",
        "",
    ]


# --- a step in a process of its own -----------------------------------------------------------------------------------
def ask(step: Step, order: Order, environment: dict[str, str]) -> Answer:
    """Run the step and return its answer; what died or hung gets one that says so."""
    with tempfile.TemporaryDirectory(prefix="edge-agent-step-") as text, tempfile.TemporaryFile() as said:
        file = Path(text) / "answer"
        command = [sys.executable, str(STEP_FILE), step.name, str(file)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment, cwd=ROOT, start_new_session=True
        )
        hung = False
        try:
            process.communicate(msgspec.json.encode(order), timeout=order.seconds)
        except subprocess.TimeoutExpired:
            hung = True
        finally:
            _end(process)
        said.seek(0)
        last = " / ".join(said.read().decode(errors="replace").strip().splitlines()[-4:])[-600:]
        try:
            return msgspec.json.decode(file.read_bytes(), type=Answer)
        except (OSError, msgspec.DecodeError):
            why = f"no end within {order.seconds:.0f} s" if hung else f"its process ended by {_told(process.returncode)}"
            return Answer(state="NOT PROVED", told=f"{why}: {last or 'it said nothing'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """The step and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _told(code: int) -> str:
    return f"signal {-code}, {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


# --- all of them ------------------------------------------------------------------------------------------------------
class Proof:
    """Steps in order, and what one decides for the next: whether there is a GPU, and who computes."""

    def __init__(self, args: argparse.Namespace, report: Report) -> None:
        self._args, self._report = args, report
        self._until = time.monotonic() + args.minutes * 60 if args.minutes else float("inf")
        self._no_gpu = ""
        self._stands_in = args.stand_in == "yes"
        if self._stands_in:
            self._note("as asked")

    def run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.on_gpu and self._args.dry_run:
                continue
            if step.on_gpu and self._no_gpu:
                self._report.add(step.title, Answer(state="skipped", told="there is no GPU to try it on"), 0)
                continue
            answer = self._step(step)
            failed = answer.state == "NOT PROVED"
            if step.name == "machine" and failed:
                self._no_gpu = answer.told
            if step.name == "engine" and failed and not self._stands_in and self._args.stand_in == "auto":
                self._stands_in = True
                self._note(answer.told)
                self._step(step)

    def _step(self, step: Step) -> Answer:
        title = f"{step.title} ({_STAND_IN})" if self._stands_in and step.on_gpu else step.title
        seconds = min(step.most_s, self._until - time.monotonic())
        began = time.monotonic()
        if seconds < _LEAST_S:
            answer = Answer(state="skipped", told="the time was over: run it by --steps")
        else:
            print(f"[......] {title}", flush=True)
            answer = ask(step, self._order(step, seconds), self._environment(step))
        self._report.add(title, answer, time.monotonic() - began)
        return answer

    def _order(self, step: Step, seconds: float) -> Order:
        args, stands_in = self._args, self._stands_in and step.on_gpu
        model = write_model(args.work / "models" / _STAND_IN) if stands_in else args.model
        return Order(
            model=str(model.resolve()),
            engines=str((args.work / ("engines-stand-in" if stands_in else "engines")).resolve()),
            images=args.images,
            inferences=args.inferences,
            candidates=str(args.candidates.resolve()) if args.candidates and not stands_in else "",
            seconds=seconds,
        )

    def _environment(self, step: Step) -> dict[str, str]:
        """Where the stand-in computes, it is what `import tensorrt` finds, in every process that a step starts."""
        paths = [str(ROOT), str(TOOLS)]
        if self._stands_in and step.on_gpu:
            paths.insert(0, str(TOOLS / "stand_in"))
        paths += filter(None, [os.environ.get("PYTHONPATH", "")])
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def _note(self, why: str) -> None:
        self._report.note = (
            f"**A stand-in ran, not TensorRT**, in every step marked *({_STAND_IN})*: CUDA kernels in the network's place. The "
            "builder's process, engine files, GPU thread, lanes, streams, graphs, memory and the daemon are the station's own. "
            f"Why: {_flat(why)}"
        )


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", default=",".join(NAMES), help=f"which, with commas between: {','.join(NAMES)}")
    parser.add_argument("--dry-run", action="store_true", help="only what needs no GPU")
    parser.add_argument("--stand-in", choices=["auto", "yes", "no"], default="auto", help="auto: where TensorRT refuses the GPU")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--inferences", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=0, help="end in order within so many; 0 is each step's own limit")
    parser.add_argument("--candidates", type=Path, help="what calibrate left; without it FP16 and INT8 are made of drawn parts")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "demo-texture")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "prove", help="engines lie there, for the next time too")
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    kept = ROOT / "docs" / "measurements" / f"gpu-{today}.md"
    parser.add_argument("--out", type=Path, help=f"the report; without it {kept}, of a dry run dry.md in --work")
    args = parser.parse_args(words)
    args.out = args.out or (args.work / "dry.md" if args.dry_run else kept)
    if args.out.is_dir():
        parser.error(f"--out {args.out} is a folder: name a file")
    if args.images < 1 or args.inferences < 1 or not 0 <= args.minutes < float("inf"):
        parser.error("--images and --inferences take 1 or more, --minutes 0 or more")
    for option, folder, file in (("--model", args.model, "model.yaml"), ("--candidates", args.candidates, "manifest.json")):
        if folder and not (folder / file).is_file():
            parser.error(f"{option} {folder} holds no {file}: give a folder that does")
    unknown = set(args.steps.split(",")) - set(NAMES)
    if unknown:
        parser.error(f"--steps: {', '.join(sorted(unknown))} is none of {', '.join(NAMES)}")
    if args.dry_run and not any(step.name in args.steps.split(",") and not step.on_gpu for step in STEPS):
        no_gpu = ", ".join(step.name for step in STEPS if not step.on_gpu)
        parser.error(f"--dry-run --steps {args.steps} leaves nothing to do: without a GPU there are {no_gpu}")
    return args


def main(words: Sequence[str]) -> int:
    args = parse(words)
    report = Report(args.out, head_of(words))
    wanted = args.steps.split(",")
    Proof(args, report).run([step for step in STEPS if step.name in wanted])
    report.write()
    print(f"written: {args.out}")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
