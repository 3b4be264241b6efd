"""What can be seen in a network's file: doubts about its papers' scaling, and first papers for one that has none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import ConfigurationError
from edge_agent.inference.graph import load_network, ports_of, with_sizes
from edge_agent.inference.model import FILE_NAME, FILE_PATTERN, ModelPapers
from edge_agent.inference.ports import Port

_REARRANGES = ("Transpose", "Reshape", "Cast", "Identity", "Squeeze", "Unsqueeze")
_TO_ONE = 0.00392157
_CHANNELS = (1, 3)  # of a gray picture, and of one in color


def scaling_doubts(network: Any, papers: ModelPapers) -> Iterator[str]:
    """Yield what speaks against the papers' scaling in the first thing that the network does with the picture."""
    told = papers.input
    if told.dtype != "float32" or told.scale is None:
        return
    op, factor = first_step(network, told.name)
    black_to_white = abs(255 * told.scale)
    if black_to_white > 64 and op == "Conv":
        yield (
            f"input.scale {told.scale:g} gives the first convolution values up to {black_to_white + told.offset:g} as they are; "
            "most networks are trained on 0..1. If yours was, give scale: 0.00392157."
        )
    if black_to_white < 8 and factor is not None and 0 < abs(factor) < 0.05:
        yield (
            f"the network itself begins by multiplying with {factor:g}, and input.scale {told.scale:g} scales before it. "
            "If it was given gray levels 0..255 in training, give scale: 1.0."
        )


def first_step(network: Any, name: str) -> tuple[str, float | None]:
    """The first operator on an input that does more than rearrange it; and by what it multiplies, if it does just that."""
    from onnx import numpy_helper

    constants = {each.name: each for each in network.graph.initializer}
    for node in network.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
        if name not in node.input:
            continue
        if node.op_type in _REARRANGES:
            name = node.output[0]
            continue
        by = [constants[each] for each in node.input if each in constants]
        factor = None
        if node.op_type in ("Mul", "Div") and by and int(np.prod(by[0].dims)) == 1:
            factor = float(numpy_helper.to_array(by[0]).item())
            factor = factor if node.op_type == "Mul" else 1 / factor if factor else None
        return str(node.op_type), factor
    return "", None


def last_step(network: Any, name: str) -> str:
    """The last operator before an output that does more than rearrange it."""
    makers = {output: node for node in network.graph.node for output in node.output}
    while name in makers and makers[name].op_type in _REARRANGES:
        name = makers[name].input[0]
    return str(makers[name].op_type) if name in makers else ""


def first_papers(file: Path, rows: int | None, cols: int | None) -> str:
    """Return a model.yaml for an ONNX file, with what is guessed marked so. `rows` and `cols` are for sizes that the file leaves
    open. Raises ConfigurationError for a file that cannot be a segmentation network of gray pictures."""
    network = load_network(file)
    if not re.search(FILE_PATTERN, file.name):
        raise _no_map(file, f"papers cannot name a file called {file.name!r}.", f"give it {FILE_NAME}.")
    inputs, outputs = ports_of(network)
    taken = inputs[0] if len(inputs) == 1 else None
    if taken is None or taken.dims is None or len(taken.dims) != 4 or taken.dtype not in ("uint8", "float32"):
        shapes = ", ".join(f"{port.name} {port.shape} {port.dtype}" for port in inputs)
        raise _no_map(file, f"it takes {shapes or 'nothing'}; one batch of pictures is needed, float32 or uint8.", _mended(inputs))
    layout = "NHWC" if taken.dims[3] in _CHANNELS and taken.dims[1] not in _CHANNELS else "NCHW"
    high, wide = taken.dims[1:3] if layout == "NHWC" else taken.dims[2:4]
    if (high or rows) is None or (wide or cols) is None:
        raise _no_map(file, f"input {taken.name} has the shape {taken.shape}: its size is open.", "give --rows and --cols.")
    size = (high or rows or 1, wide or cols or 1)
    inferred = with_sizes(network, taken.name, (1, *size, 1) if layout == "NHWC" else (1, 1, *size))
    _, outputs = ports_of(inferred)
    given = next((port for port in outputs if port.dims is None or len(port.dims) == 4), None)
    if given is None:
        shapes = ", ".join(f"{port.name} {port.shape}" for port in outputs)
        raise _no_map(file, f"it gives {shapes}; a map of four dimensions is needed.")
    lines = [*_named(file), *_input_lines(network, taken, layout, size), *_output_lines(network, given, outputs, layout, size)]
    return "\n".join([*lines, *_stride_lines(inferred, size)]) + "\n"


def _no_map(file: Path, message: str, remedy: str = "export a network that tells of every pixel.") -> ConfigurationError:
    return ConfigurationError.of(message, remedy, file)


def _mended(inputs: list[Port]) -> str:
    """What to do about inputs that are no batch of gray pictures."""
    if len(inputs) != 1:
        return "fold the rest into the graph: a picture is all it is given."
    if inputs[0].dims is None or len(inputs[0].dims) != 4:
        return "export it with four dimensions: batch, channel, rows and cols."
    return "export it as float32."


def _named(file: Path) -> list[str]:
    folder = file.resolve().parent.name
    name = folder if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", folder) else "model"
    return [
        f"name: {name}  # the folder's",
        "version: 1",
        f"onnx: {{file: {file.name}, sha256: '{hashlib.sha256(file.read_bytes()).hexdigest()}'}}",
    ]


def _quoted(name: str) -> str:
    """As YAML and JSON write any text."""
    return json.dumps(name, ensure_ascii=False)


def _input_lines(network: Any, port: Port, layout: str, size: tuple[int, int]) -> list[str]:
    scale = ""
    notes = [f"# the file takes {port.shape}"]
    if port.dtype == "float32":
        scales_itself = first_step(network, port.name)[0] in ("Mul", "Div", "Sub", "Add")
        scale = f", scale: {1.0 if scales_itself else _TO_ONE}"
        why = "the network begins by scaling for itself" if scales_itself else "most networks are trained on 0..1"
        notes.append(f"# scale is a GUESS: {why}; 1.0 is for 0..255")
    told = f"layout: {layout}, dtype: {port.dtype}, rows: {size[0]}, cols: {size[1]}{scale}"
    return [*notes, f"input: {{name: {_quoted(port.name)}, {told}}}"]


def _output_lines(network: Any, port: Port, ports: list[Port], taken: str, size: tuple[int, int]) -> list[str]:
    notes = [f"# the file gives {', '.join(f'{each.name} {each.shape} {each.dtype}' for each in ports)}"]
    peaks = [each.name for each in ports if each is not port and each.dtype == "float32"]
    layout = _layout_of(port, taken, size)
    if port.dims is not None and None not in port.dims and size not in (port.dims[1:3], port.dims[2:4]):
        notes.append(f"# the map has another size than the picture ({size[1]}x{size[0]}) and WILL BE REFUSED: end in a resize")
    channels = (port.dims[3] if layout == "NHWC" else port.dims[1]) if port.dims is not None else None
    last = last_step(network, port.name)
    if port.dtype == "uint8" and peaks:
        output, head = f"kind: map_and_peak, map: {_quoted(port.name)}, peak: {_quoted(peaks[0])}", "sigmoid"
    else:
        kind = "probability" if last in ("Sigmoid", "Softmax") else "logits"
        notes.append(f"# kind is {'what' if kind == 'probability' else 'a GUESS from what'} its last operator makes it: {last}")
        output = f"kind: {kind}, map: {_quoted(port.name)}, layout: {layout}"
        head = "softmax" if last == "Softmax" or (kind == "logits" and (channels or 1) > 1) else "sigmoid"
    classes = (channels or 1) - (head == "softmax")
    names = ["defect"] if classes == 1 else [f"class{index}" for index in range(1, classes + 1)]
    about = "# a GUESS: softmax, where classes exclude each other, has a background, here the first channel"
    return [
        *notes,
        f"output: {{{output}}}",
        *([about, "head: softmax", "background: first"] if head == "softmax" else ["head: sigmoid"]),
        f"classes: [{', '.join(names)}]  # name them, in the order of the channels",
    ]


def _layout_of(port: Port, taken: str, size: tuple[int, int]) -> str:
    """Where the map's channels are; that of the picture, where the map's size does not tell."""
    if port.dims is None or (port.dims[1:3] == size) == (port.dims[2:4] == size):
        return taken if port.dims is not None and size not in (port.dims[1:3], port.dims[2:4]) else "NCHW"
    return "NHWC" if port.dims[1:3] == size else "NCHW"


def _stride_lines(network: Any, size: tuple[int, int]) -> list[str]:
    """The stride from the smallest picture inside: ONNX's convolutions are always NCHW."""
    convolved = {node.output[0] for node in network.graph.node if node.op_type in ("Conv", "MaxPool", "AveragePool")}
    shapes = [value.type.tensor_type.shape.dim for value in network.graph.value_info if value.name in convolved]
    rows = [int(dims[2].dim_value) for dims in shapes if len(dims) == 4 and dims[2].dim_value > 1]
    stride = max((size[0] // each for each in rows if not size[0] % each), default=1)
    return [f"stride: {stride}  # rows and cols are multiples of this"]
