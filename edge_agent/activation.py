"""Which engine of a model judges on this station: the model as it is, or a calibrated graph that passed the gate here.

The choice is state of the station, one for each recipe: `state/calibrated/RECIPE.json` and the graph beside it. It holds for one
model, the recipe's rules, one engine and one processor, the very ones it was measured with; anything else is foreign and not used.
Of TensorRT the engine is one build: another one of the same graph has not passed the gate.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge_agent.errors import EdgeAgentError, remedy_within
from edge_agent.events import EVENTS
from edge_agent.inference.model import Model
from edge_agent.inference.tensorrt.store import write_whole
from edge_agent.recipe import EvidencePlan, Name, Recipe

FOLDER = "calibrated"
MEND_ENGINE = (
    "mend the engine (a GPU's: docs/gpu.md) and restart: the choice holds again; where it is gone for good, calibrate anew"
)
_SHORT = 12
_SHA256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class ForeignChoice(EdgeAgentError):
    """The station's choice cannot be used: damaged, or made for something else: the model judges as it is. `remedy`: what to do."""

    remedy = EVENTS["engine.choice_refused"].remedy


class EngineAway(ForeignChoice):
    """The choice was made on another kind of engine than judges now: a GPU's that is missing, mostly."""

    remedy = MEND_ENGINE


class Choice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """RECIPE.json. `rules` is the recipe's hash without what no verdict depends on; `speedup` is told to people only."""

    candidate: Name
    onnx: _SHA256
    model: _SHA256
    rules: _SHA256
    engine: str
    processor: str
    speedup: float
    images: int
    flips: int
    made_at: str
    v: Literal[3] = 3  # 1 was gated on OpenVINO's signed steps, which were wrong; 2 in bfloat16 where the processor has it

    @property
    def label(self) -> str:
        """What records and status add to the engine's id."""
        return f"{self.candidate}-{self.onnx[:_SHORT]}"


def rules_hash(recipe: Recipe) -> str:
    """The recipe's hash with everything left out that decides no verdict: deadline, evidence, alarm."""
    return msgspec.structs.replace(recipe, deadline_ms=500, evidence=EvidencePlan(), alarm_after_ng=0).hash


def processor() -> str:
    """The processor's name, as the kernel tells it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_choice(state: Path, recipe: Recipe, model: Model) -> tuple[Choice, Model] | None:
    """Return the station's choice for a recipe, and the model with the chosen graph; None where there is none. Raises
    ForeignChoice for a damaged one, and for one of another model, other rules or another processor."""
    file = _file(state, recipe.name)
    try:
        choice = msgspec.json.decode(file.read_bytes(), type=Choice)
        onnx = _graph(state, choice.onnx)
        digest = hashlib.sha256(onnx.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        if not file.exists():
            return None
        raise ForeignChoice(f"{file} names a graph that is not there: {error.filename}") from None
    except OSError as error:
        raise ForeignChoice(f"{error.filename} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ForeignChoice(f"{file} is damaged, or of another release: {error}") from None
    if digest != choice.onnx:
        raise ForeignChoice(f"{onnx} is damaged: it has the SHA-256 {digest[:_SHORT]}..., not {choice.onnx[:_SHORT]}...")
    _require_same(file, "model", choice.model, model.hash)
    _require_same(file, "recipe's rules", choice.rules, rules_hash(recipe))
    _require_same(file, "processor", choice.processor, processor())
    return choice, model.calibrated(onnx, choice.onnx)


def require_engine(choice: Choice, engine_id: str) -> None:
    """Raise ForeignChoice where the engine is not the one the choice was measured with; '' is one that would have to be built."""
    if not engine_id:
        raise ForeignChoice(
            f"{choice.label} passed the gate as the engine {choice.engine}, which is not kept for this GPU, driver, TensorRT and "
            "settings, or cannot be read. Another build would be another engine."
        )
    if choice.engine != engine_id:
        kind = ForeignChoice if choice.engine.partition("-")[0] == engine_id.partition("-")[0] else EngineAway
        raise kind(f"{choice.label} was chosen on the engine {choice.engine}, this one is {engine_id}")


def _require_same(file: Path, what: str, of_choice: str, of_station: str) -> None:
    if of_choice != of_station:
        short = [each if " " in each else each[:_SHORT] for each in (of_choice, of_station)]
        raise ForeignChoice(f"{file} is of another {what}: it was made for {short[0]}, here it is {short[1]}")


def write_choice(state: Path, recipe: Recipe, choice: Choice, graph: bytes) -> Path:
    """Make a choice the station's: the graph first, then what names it, each whole or not at all. Raises EdgeAgentError."""
    try:
        write_whole(_graph(state, choice.onnx), graph)
        write_whole(_file(state, recipe.name), msgspec.json.format(msgspec.json.encode(choice)) + b"\n")
    except OSError as error:
        raise _unwritable(state, error) from None
    _forget_unused(state)
    return _file(state, recipe.name)


def withdraw_choice(state: Path, recipe: Recipe) -> bool:
    """Let the model judge as it is again; return whether there was a choice. Raises EdgeAgentError."""
    file = _file(state, recipe.name)
    try:
        was_there = file.exists()
        file.unlink(missing_ok=True)
        _forget_unused(state)
    except OSError as error:
        raise _unwritable(state, error) from None
    return was_there


def _unwritable(state: Path, error: OSError) -> EdgeAgentError:
    remedy = "Run this as root or as the user whose state it is." if isinstance(error, PermissionError) else remedy_within(error)
    place = error.filename2 or error.filename or state / FOLDER
    return EdgeAgentError(f"the choice cannot be changed in {state / FOLDER}: {place}: {error.strerror}. {remedy}")


def _forget_unused(state: Path) -> None:
    """Delete graphs that no choice names. Folders in the place of either are left: they hold up no choice."""
    texts = [file.read_text(errors="replace") for file in (state / FOLDER).glob("*.json") if file.is_file()]
    for graph in (state / FOLDER).glob("*.onnx"):
        if graph.is_file() and not any(graph.stem in text for text in texts):
            graph.unlink(missing_ok=True)


def _file(state: Path, recipe: str) -> Path:
    return state / FOLDER / f"{recipe}.json"


def _graph(state: Path, sha256: str) -> Path:
    return state / FOLDER / f"{sha256}.onnx"
