"""A model's papers (model.yaml): what goes in, what comes out, which file. A mismatch is refused with its remedy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edge_agent import strictyaml
from edge_agent.errors import ConfigurationError, Problem, remedy_of
from edge_agent.recipe import Name, Strict

Size = Annotated[int, msgspec.Meta(ge=1, le=16_384)]
FILE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # of the network's file
FILE_NAME = "a name of letters, digits, dot, underscore and dash, the first a letter or digit"
_FILE = Annotated[str, msgspec.Meta(pattern=FILE_PATTERN, description=FILE_NAME)]
CALIBRATED_PORTS = ("calibrated.frames", "calibrated.map", "calibrated.peak")  # of every graph that `calibrate` writes
_HASH = "64 hexadecimal digits in quotes, as `sha256sum` prints them of the file"
_SPAN = (0.01, 10_000.0)  # black to white as the network sees it: 1, 2, 4 or 255 in practice; beyond this the scale is a slip


class OnnxFile(Strict, frozen=True, kw_only=True):
    """The network's file, beside model.yaml, and the SHA-256 it must have."""

    file: _FILE
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$", extra_json_schema={"description": _HASH})]


class ModelInput(Strict, frozen=True, kw_only=True):
    """What the network takes: gray frames. For float32 the frame is turned into `pixel * scale + offset` in the graph."""

    name: str
    rows: Size
    cols: Size
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    dtype: Literal["uint8", "float32"] = "uint8"
    channels: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    scale: float | None = None
    offset: float = 0.0


class ModelOutput(Strict, frozen=True, kw_only=True):
    """What the network gives. `map_and_peak`: a uint8 map and its largest logit, ready; else floats, finished in the graph."""

    kind: Literal["map_and_peak", "probability", "logits"] = "map_and_peak"
    map: str
    peak: str | None = None
    layout: Literal["NCHW", "NHWC"] = "NCHW"


class ModelPapers(Strict, frozen=True, kw_only=True):
    """model.yaml. `classes` are the defect classes in channel order; the background is no class."""

    name: Name
    version: int | str
    onnx: OnnxFile
    input: ModelInput
    output: ModelOutput
    head: Literal["sigmoid", "softmax"]
    background: Literal["first", "last", "none"] | None = None
    classes: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=32)]
    stride: Annotated[int, msgspec.Meta(ge=1)] = 1
    training: dict[str, Any] = {}
    scores: dict[str, Any] = {}

    @property
    def background_place(self) -> str:
        """Where the background's channel is: `first`, `last` or `none`."""
        return self.background or ("first" if self.head == "softmax" else "none")

    @property
    def channels(self) -> int:
        """How many channels the network's map has, before it is finished."""
        return len(self.classes) + (self.output.kind != "map_and_peak" and self.background_place != "none")

    @property
    def interface(self) -> bytes:
        """What decides how the file is run: equal bytes, equal engine."""
        return msgspec.json.encode((self.onnx.sha256, self.input, self.output, self.head, self.background_place, self.classes))


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Papers together with the file they belong to. `hash` is the file's SHA-256."""

    papers: ModelPapers
    onnx: Path
    hash: str

    def calibrated(self, onnx: Path, sha256: str) -> Model:
        """The same model in another precision: a graph with CALIBRATED_PORTS. `hash` stays that of the model it was made of."""
        frames, probability, peak = CALIBRATED_PORTS
        told = self.papers.input
        papers = msgspec.structs.replace(
            self.papers,
            onnx=OnnxFile(file=onnx.name, sha256=sha256),
            input=ModelInput(name=frames, rows=told.rows, cols=told.cols),
            output=ModelOutput(map=probability, peak=peak),
            background=None,
        )
        return Model(papers=papers, onnx=onnx, hash=self.hash)

    def problem(self, message: str, remedy: str) -> Problem:
        """What is wrong between model.yaml and the file."""
        return Problem(str(self.onnx.parent / "model.yaml"), 0, "", message, remedy)


def _require_papers(folder: Path) -> None:
    """Say how a network gets its papers, where it has none, and what to give where a file was given."""
    if os.path.isfile(folder):  # noqa: PTH113  # Path's fails in what is closed
        raise ConfigurationError.of(
            "is a file, and a model is a folder.", f"give the one that it lies in, {folder.parent}.", folder
        )
    papers = folder / "model.yaml"
    try:
        networks = [] if papers.exists() else sorted(folder.glob("*.onnx"))
    except OSError:
        return  # reading the papers tells what it is
    if networks:
        message = f"{networks[0].name} is there, but no model.yaml."
        remedy = f"have first papers written: edge-agent describe-model {networks[0]} > {papers}"
        raise ConfigurationError.of(message, remedy, folder)


def load_model(folder: Path) -> Model:
    """Read and verify a model folder. Raises ConfigurationError for wrong papers, a missing file or another file."""
    _require_papers(folder)
    document = strictyaml.read(folder / "model.yaml")
    papers = strictyaml.convert(document, ModelPapers, lambda papers, document: list(_contradictions(papers, document)))
    onnx = folder / papers.onnx.file
    try:
        digest = hashlib.sha256(onnx.read_bytes()).hexdigest()
    except OSError as error:
        problem = document.problem(("onnx", "file"), f"{onnx} cannot be read: {error.strerror}.", remedy_of(error))
        raise ConfigurationError([problem]) from None
    if digest != papers.onnx.sha256:
        message = f"is {papers.onnx.sha256[:12]}..., but {onnx.name} has {digest[:12]}...: it is damaged or another model."
        remedy = "restore the file; for a new one, give its hash, as `sha256sum` prints it."
        raise ConfigurationError([document.problem(("onnx", "sha256"), message, remedy)])
    return Model(papers=papers, onnx=onnx, hash=digest)


def _contradictions(papers: ModelPapers, document: strictyaml.Document) -> Iterator[Problem]:
    for key, size in (("rows", papers.input.rows), ("cols", papers.input.cols)):
        if size % papers.stride:
            message = f"is {size}, not a multiple of the stride {papers.stride}."
            yield document.problem(("input", key), message, "give a multiple.")
    repeated = sorted({name for name in papers.classes if papers.classes.count(name) > 1})
    if repeated:
        yield document.problem(("classes",), f"names {repeated[0]} twice.", "give every channel a name of its own.")
    yield from _scaling_problems(papers.input, document)
    yield from _output_problems(papers, document)


def _scaling_problems(told: ModelInput, document: strictyaml.Document) -> Iterator[Problem]:
    if told.dtype == "uint8":
        if told.scale not in (None, 1.0) or told.offset:
            message = "a network that takes uint8 scales for itself; scale and offset are for float32."
            yield document.problem(("input",), message, "remove them, or give dtype: float32.")
        return
    if told.scale is not None and not _SPAN[0] <= abs(255 * told.scale) <= _SPAN[1]:
        message = f"is {told.scale:g}: gray 0..255 would become {told.offset:g}..{255 * told.scale + told.offset:g}."
        yield document.problem(("input", "scale"), message, "give 0.00392157 for 0..1, or 1.0 for 0..255.")


def _output_problems(papers: ModelPapers, document: strictyaml.Document) -> Iterator[Problem]:
    output = papers.output
    if output.kind == "map_and_peak":
        if output.peak is None:
            yield document.problem(("output",), "kind map_and_peak needs the name of the peak.", "add `peak:`.")
        if output.layout == "NHWC":
            yield document.problem(("output", "layout"), "is NHWC; a map_and_peak is NCHW.", "export it so.")
        if papers.background not in (None, "none"):
            yield document.problem(("background",), "a map_and_peak has no background channel.", "remove it.")
    elif output.peak is not None:
        message = f"kind {output.kind} has no peak: it is made from the map."
        yield document.problem(("output", "peak"), message, "remove `peak:`, or give kind: map_and_peak.")
    if papers.head == "softmax" and papers.background == "none" and len(papers.classes) == 1:
        message = "a softmax over one class is 1 everywhere."
        yield document.problem(("background",), message, "give first or last, or head: sigmoid.")
