"""Holds a network's inputs and outputs against its papers, in words: names, types, layouts, sizes, channels.

Knows no engine and no file format: whoever reads the network tells its ports.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_agent.inference.model import ModelPapers

Complaint = tuple[str, str]  # what is wrong, and the remedy
_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output: `dims` is None where the rank is unknown, a dimension is None where it is open."""

    name: str
    dtype: str
    dims: tuple[int | None, ...] | None

    @property
    def shape(self) -> str:
        return "(" + ", ".join("?" if dim is None else str(dim) for dim in self.dims or ()) + ")"

    def may_be(self, *expected: int) -> bool:
        """False where a dimension that is known is another one."""
        dims = self.dims
        return dims is None or (len(dims) == len(expected) and all(d in (None, e) for d, e in zip(dims, expected, strict=True)))


def complaints(inputs: Sequence[Port], outputs: Sequence[Port], papers: ModelPapers) -> Iterator[Complaint]:
    """Yield everything in which the file is not what model.yaml says."""
    taken = _named(inputs, papers.input.name)
    if taken is None:
        yield _unknown("input.name", papers.input.name, inputs)
    else:
        yield from _about_input(taken, papers)
        others = [port.name for port in inputs if port is not taken]
        if others:
            yield f"the file takes {', '.join(others)} beside {taken.name!r}.", "export it with the picture as its only input."
    given = _named(outputs, papers.output.map)
    if given is None:
        yield _unknown("output.map", papers.output.map, outputs)
    else:
        yield from _about_map(given, papers)
    if papers.output.kind == "map_and_peak":
        peak = _named(outputs, papers.output.peak or "")
        if peak is None:
            yield _unknown("output.peak", papers.output.peak or "", outputs)
        elif peak.dtype != "float32":
            yield f"output.peak {peak.name!r} gives {peak.dtype}; a peak is float32.", "export it as float32."


def _named(ports: Sequence[Port], name: str) -> Port | None:
    return next((port for port in ports if port.name == name), None)


def _unknown(key: str, name: str, ports: Sequence[Port]) -> Complaint:
    known = ", ".join(f"{port.name} {port.shape if port.dims is not None else ''}".strip() for port in ports)
    return f"{key} is {name!r}, the file has {known or 'none'}.", "give one of them."


def _arranged(layout: str, channels: int, rows: int, cols: int) -> tuple[int, int, int, int]:
    return (1, channels, rows, cols) if layout == "NCHW" else (1, rows, cols, channels)


def _about_input(port: Port, papers: ModelPapers) -> Iterator[Complaint]:
    told = papers.input
    if port.dtype != told.dtype:
        remedy = "give that." if port.dtype in ("uint8", "float32") else "export it with a float32 or uint8 input."
        yield f"input.dtype is {told.dtype}, the file takes {port.dtype}.", remedy
    elif port.dtype == "float32" and told.scale is None:
        why = "nobody can see in the file what the network was trained on"
        remedy = "add `scale: 0.00392157` where that was 0..1, `scale: 1.0` where it was 0..255."
        yield f"input.scale is missing: the file takes float32, and {why}.", remedy
    if port.dims is None or port.may_be(*_arranged(told.layout, 1, told.rows, told.cols)):
        return
    dims = port.dims
    other = "NHWC" if told.layout == "NCHW" else "NCHW"
    if len(dims) != 4:
        yield f"input {port.name!r} has the shape {port.shape}, which is no batch of pictures.", "export it with four dimensions."
        return
    batch, channels, rows, cols = dims if told.layout == "NCHW" else (dims[0], dims[3], dims[1], dims[2])
    if channels not in (None, 1) and dims[1 if other == "NCHW" else 3] in (None, 1):
        yield f"input.layout is {told.layout}, but input {port.name!r} has the shape {port.shape}: that is {other}.", "give that."
        return
    if batch not in (None, 1):
        yield f"input {port.name!r} takes {batch} pictures at once, the station gives 1.", "export it with a batch of 1, or open."
    if channels not in (None, 1):
        yield (
            f"input {port.name!r} takes {channels} channels, a gray frame has 1.",
            "put a layer that repeats it before the network.",
        )
    if rows not in (None, told.rows) or cols not in (None, told.cols):
        size = f"{told.rows} rows and {told.cols} cols"
        remedy = "give the file's, or export it for this size."
        yield f"input has {size}, the file takes {rows or told.rows} rows and {cols or told.cols} cols only.", remedy


def _about_map(port: Port, papers: ModelPapers) -> Iterator[Complaint]:
    output, told = papers.output, papers.input
    wanted = ("uint8",) if output.kind == "map_and_peak" else _FLOATS
    if port.dtype not in wanted:
        yield f"output.kind is {output.kind}, but {port.name!r} gives {port.dtype}.", _dtype_remedy(port.dtype)
    dims = port.dims
    if dims is None or port.may_be(*_arranged(output.layout, papers.channels, told.rows, told.cols)):
        return
    if len(dims) != 4:
        what = "one answer for the whole picture, no map" if len(dims) < 3 else "no map of four dimensions"
        yield f"output {port.name!r} has the shape {port.shape}: {what}.", "export a network that tells of every pixel."
        return
    other = "NHWC" if output.layout == "NCHW" else "NCHW"
    if port.may_be(*_arranged(other, papers.channels, told.rows, told.cols)):
        yield f"output.layout is {output.layout}, but {port.name!r} has the shape {port.shape}: that is {other}.", "give that."
        return
    _, channels, rows, cols = dims if output.layout == "NCHW" else (dims[0], dims[3], dims[1], dims[2])
    if channels not in (None, papers.channels):
        yield _channels(port, channels or 0, papers)
    if rows not in (None, told.rows) or cols not in (None, told.cols):
        yield (
            f"output {port.name!r} has the shape {port.shape}, a map of {told.rows} rows and {told.cols} cols is needed.",
            "scale it to the picture's size in the network, or mend layout, rows and cols.",
        )


def _channels(port: Port, channels: int, papers: ModelPapers) -> Complaint:
    place = papers.background_place
    background = "no background" if papers.channels == len(papers.classes) else f"the background {place}"
    return (
        f"output {port.name!r} has the shape {port.shape} with {channels} channels; {len(papers.classes)} classes and "
        f"{background} make {papers.channels}.",
        "mend classes, head, background or layout.",
    )


def _dtype_remedy(dtype: str) -> str:
    if dtype in _FLOATS:
        return "give kind: probability or logits."
    if dtype == "uint8":
        return "give kind: map_and_peak, with `peak:`."
    return "export the values before they are turned into class numbers."
