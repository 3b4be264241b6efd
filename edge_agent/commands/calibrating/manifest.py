"""manifest.json: of what the candidates beside it were made, with what, and what the gate said of them."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypedDict

import msgspec

from edge_agent import __version__
from edge_agent.activation import processor, rules_hash
from edge_agent.errors import ConfigurationError, remedy_of
from edge_agent.inference.model import Model
from edge_agent.recipe import Recipe

_TOOLS = ("numpy", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")
_CUDAS = ("cu13", "cu12")  # end the names of NVIDIA's own wheels: `tensorrt-cu12` has the module `tensorrt`
_GPUS = Path("/proc/driver/nvidia/gpus")
_BOARD = Path("/proc/device-tree/model")  # of a Jetson, whose GPU is part of it and no entry there


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate's file."""

    file: str
    sha256: str
    bytes: int
    meaning: str


class _OfModel(TypedDict):
    name: str
    version: int
    sha256: str
    classes: list[str]
    rows: int
    cols: int


class _Measured(TypedDict):
    images: int
    used: int
    tensors: int
    sha256: str
    ranges: str
    percentile: float | None


class Calibration(_Measured, total=False):
    """What the ranges were measured on. Earlier releases told no `contents`."""

    contents: list[str]


class _Machine(TypedDict):
    tools: dict[str, str]
    processor: str
    gpus: list[str]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file. `calibration` and `ranges` are of the desk that made the graphs, `gate` of the station that tried them."""

    model: _OfModel
    recipe: dict[str, str]
    calibration: Calibration
    ranges: dict[str, float]
    candidates: dict[str, Made]
    made_at: str
    made_on: _Machine
    gate: dict[str, Any] | None = None
    v: Literal[1] = 1


def this_machine() -> _Machine:
    """Versions of what computes here, the processor, and the GPUs that a driver tells of."""
    tools = {"edge-agent": __version__, "python": platform.python_version()}
    for name in _TOOLS:
        for package in (name, *(f"{name}_{cuda}" for cuda in _CUDAS)):
            with contextlib.suppress(PackageNotFoundError):
                tools.setdefault(name, version(package))
    return {"tools": tools, "processor": processor(), "gpus": _gpus()}


def _gpus() -> list[str]:
    lines = [line for file in sorted(_GPUS.glob("*/information")) for line in file.read_text().splitlines()]
    gpus = [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    with contextlib.suppress(OSError):
        board = _BOARD.read_text(errors="replace").strip("\0\n ")
        if not gpus and board.startswith("NVIDIA"):
            return [board]
    return gpus


def about(model: Model, recipe: Recipe) -> dict[str, Any]:
    """The manifest's entries `model` and `recipe`."""
    papers = model.papers
    size = {"rows": papers.input.rows, "cols": papers.input.cols}
    return {
        "model": {"name": papers.name, "version": papers.version, "sha256": model.hash, "classes": list(papers.classes), **size},
        "recipe": {"name": recipe.name, "hash": recipe.hash, "rules": rules_hash(recipe)},
    }


def write_manifest(out: Path, manifest: Manifest) -> None:
    (out / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


def read_manifest(out: Path, model: Model) -> Manifest:
    """Read what an earlier run left, and hold every candidate against it. Raises ConfigurationError."""
    file = out / "manifest.json"
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=Manifest)
    except OSError as error:
        is_absent = isinstance(error, FileNotFoundError)
        remedy = "run calibrate without --gate-only first." if is_absent else remedy_of(error)
        raise ConfigurationError.of(f"cannot be read: {error.strerror}.", remedy, file) from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ConfigurationError(f"{file} is damaged: {error}. Run calibrate without --gate-only again.") from None
    if manifest.model["sha256"] != model.hash:
        raise ConfigurationError(f"{file} is of another model than {model.papers.name} {model.hash[:12]}. Calibrate this one.")
    for name, made in manifest.candidates.items():
        graph = out / made.file
        if not graph.is_file():
            raise ConfigurationError(
                f"{graph}, the candidate {name} of the manifest, is not there. Calibrate again, or put it back."
            )
        if hashlib.sha256(graph.read_bytes()).hexdigest() != made.sha256:
            raise ConfigurationError(f"{graph} is not the candidate {name} that the manifest tells of. Calibrate again.")
    return manifest


def made(file: Path, content: bytes, meaning: str) -> Made:
    return Made(file=file.name, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), meaning=meaning)


def subset(manifest: Manifest, names: Mapping[str, Any] | set[str]) -> dict[str, Made]:
    return {name: each for name, each in manifest.candidates.items() if name in names}
