"""A model's papers (model.yaml): what goes in, what comes out, which file. A mismatch is refused with its remedy."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edge_agent import strictyaml
from edge_agent.errors import ConfigurationError, Problem
from edge_agent.recipe import Name, Strict

Size = Annotated[int, msgspec.Meta(ge=1, le=16_384)]
_FILE = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class OnnxFile(Strict, frozen=True, kw_only=True):
    """The network's file, beside model.yaml, and the SHA-256 it must have."""

    file: _FILE
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class ModelInput(Strict, frozen=True, kw_only=True):
    """What the network takes: gray frames. For float32 the frame is turned into `pixel * scale + offset` in the graph."""

    name: str
    rows: Size
    cols: Size
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    dtype: Literal["uint8", "float32"] = "uint8"
    channels: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    scale: float = 1.0
    offset: float = 0.0


class ModelOutput(Strict, frozen=True, kw_only=True):
    """What the network gives. `map_and_peak`: a uint8 map and its largest logit, ready; else floats, finished in the graph."""

    kind: Literal["map_and_peak", "probability", "logits"] = "map_and_peak"
    map: str
    peak: str | None = None
    layout: Literal["NCHW", "NHWC"] = "NCHW"


class ModelPapers(Strict, frozen=True, kw_only=True):
    """model.yaml. `classes` are the defect classes in channel order; a softmax head has the background before them."""

    name: Name
    version: int | str
    onnx: OnnxFile
    input: ModelInput
    output: ModelOutput
    head: Literal["sigmoid", "softmax"]
    classes: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=32)]
    stride: Annotated[int, msgspec.Meta(ge=1)] = 1
    training: dict[str, Any] = {}
    scores: dict[str, Any] = {}


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Papers together with the file they belong to. `hash` is the file's SHA-256."""

    papers: ModelPapers
    onnx: Path
    hash: str


def load_model(folder: Path) -> Model:
    """Read and verify a model folder. Raises ConfigurationError for wrong papers, a missing file or another file."""
    document = strictyaml.read(folder / "model.yaml")
    papers = strictyaml.convert(document, ModelPapers)
    onnx = folder / papers.onnx.file
    try:
        digest = hashlib.sha256(onnx.read_bytes()).hexdigest()
    except OSError as error:
        problem = document.problem(("onnx", "file"), f"{onnx} cannot be read: {error.strerror}.", "put the file there.")
        raise ConfigurationError([problem]) from None
    if digest != papers.onnx.sha256:
        message = f"is {papers.onnx.sha256[:12]}..., but {onnx.name} has {digest[:12]}...: it is damaged or another model."
        raise ConfigurationError([document.problem(("onnx", "sha256"), message, "restore the file, or export the model again.")])
    problems = _contradictions(papers, document)
    if problems:
        raise ConfigurationError(problems)
    return Model(papers=papers, onnx=onnx, hash=digest)


def _contradictions(papers: ModelPapers, document: strictyaml.Document) -> list[Problem]:
    problems = [
        document.problem(("input", key), f"is {size}, not a multiple of the stride {papers.stride}.", "give a multiple.")
        for key, size in (("rows", papers.input.rows), ("cols", papers.input.cols))
        if size % papers.stride
    ]
    if papers.output.kind == "map_and_peak" and papers.output.peak is None:
        problems.append(document.problem(("output",), "kind map_and_peak needs the name of the peak.", "add `peak:`."))
    return problems
