"""All candidates of one network, each a graph of the same ports: uint8 frames in, uint8 maps and the float peak out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_agent.calibration.eightbit import to_eight_bits
from edge_agent.calibration.half import to_half
from edge_agent.calibration.ranges import Ranges, require_onnxruntime
from edge_agent.calibration.trunk import trunk_of
from edge_agent.errors import ConfigurationError

CANDIDATES = {
    "fp16": "half precision",
    "int8": "8 bits",
    "int8_level0_fp16": "8 bits, the first level in half precision",
}
_FINISHED = "edge_agent."  # names of what finishing a graph adds: a candidate is finished once more when it is loaded
_OPSET_OF_HALF_SCALES = 19  # from here on a Q/DQ pair may stand between tensors of half precision


def prepare(network: Any, ports: Sequence[str]) -> Any:
    """Return the finished graph with constants and batch norms folded, every node named, and the ports under these names: the
    input's, then the outputs'. What every candidate is made from. Raises ConfigurationError for a graph that cannot run."""
    prepared = named(_folded(network), ports)
    if not trunk_of(prepared).convolutions:
        raise ConfigurationError("the network has no convolution: there is nothing to make cheaper. Let it judge as it is.")
    return prepared


def named(network: Any, ports: Sequence[str]) -> Any:
    """Return the finished graph, which is used up, with its nodes and ports named as those of a candidate. Needs onnx alone."""
    graph = network.graph
    weights = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    new = dict(zip([each.name for each in [*graph.input, *graph.output]], ports, strict=True))
    inner = {name for node in graph.node for name in [*node.input, *node.output]}
    new |= {name: f"calibrated.{name}" for name in inner - set(new) if name.startswith(_FINISHED)}
    for each in [*graph.input, *graph.output, *graph.initializer]:
        each.name = new.get(each.name, each.name)
    for index, node in enumerate(graph.node):
        node.name = f"{index}/{node.name or node.op_type}"
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    return network


def _folded(network: Any) -> Any:
    import onnx

    require_onnxruntime()
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="edge-agent-fold-") as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        try:
            onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  # its own exceptions have no common base but this
            raise ConfigurationError(f"onnxruntime cannot run the network: {str(error)[:300]}. Export it again.") from None
        folded = onnx.load(options.optimized_model_filepath)
    used = {node.domain or "" for node in folded.graph.node}
    opsets = [each for each in folded.opset_import if each.domain in used]
    del folded.opset_import[:], folded.graph.value_info[:]
    folded.opset_import.extend(opsets)
    folded.producer_name = "edge-agent calibrate"
    return folded


def make(name: str, prepared: Any, ranges: Ranges) -> Any:
    """Return one candidate, checked. Raises ConfigurationError where ONNX's own checker refuses it."""
    import onnx

    trunk = trunk_of(prepared)
    if name == "fp16":
        made = to_half(prepared, trunk.nodes)
    elif name == "int8":
        made = to_eight_bits(prepared, ranges)
    else:
        made = to_eight_bits(_of_opset(prepared, _OPSET_OF_HALF_SCALES), ranges, trunk.first_level)
        pairs = {node.name for node in made.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
        made = to_half(made, trunk.nodes | pairs)
    try:
        onnx.checker.check_model(made, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConfigurationError(f"the candidate {name} is no valid ONNX: {error}. Report it, with the model.") from None
    return made


def _of_opset(network: Any, least: int) -> Any:
    """The same network in operator set `least`, where its own is older."""
    import onnx

    if any(each.domain in ("", "ai.onnx") and each.version >= least for each in network.opset_import):
        return network
    try:
        newer = onnx.version_converter.convert_version(network, least)
    except RuntimeError as error:
        raise ConfigurationError(f"the network cannot be raised to opset {least}: {error}. Export it with that opset.") from None
    newer.ir_version = max(newer.ir_version, 9)
    return newer
