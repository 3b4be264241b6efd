"""8 bits, written into a graph as Q/DQ pairs by onnxruntime's `quantize_static`, and then as TensorRT wants them.

Symmetric throughout. Weights have a scale for each output channel; those of a transposed convolution one for all, since TensorRT
8.x took the other axis. A pair stands before each convolution and behind each transposed one. What a concatenation joins has one
scale, with no pair behind it: the engine then joins 8-bit tensors as they are. Biases and the head's output stay floats.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.calibration.ranges import OBSERVED, Ranges, require_onnxruntime, tie
from edge_agent.calibration.trunk import PASSES, trunk_of

_QUIET = ("Conv", *PASSES)  # operators behind which no pair is wanted


def to_eight_bits(network: Any, ranges: Ranges, left_out: Collection[str] = ()) -> Any:
    """Return a copy with Q/DQ around the trunk's convolutions but those named in `left_out`. `ranges` has the largest
    magnitude of each tensor."""
    trunk = trunk_of(network)
    wanted = [
        node.name
        for node in network.graph.node
        if node.op_type in OBSERVED and node.name in trunk.nodes and node.name not in left_out
    ]
    quantised = _quantised(network, tie(ranges, network, wanted), wanted)
    _drop_pairs_behind(quantised, PASSES)
    _drop_unused(quantised)
    return quantised


def _quantised(network: Any, tied: Ranges, wanted: list[str]) -> Any:
    import onnx

    quantization = require_onnxruntime()
    from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

    minmax = quantization.CalibrationMethod.MinMax
    data = {name: (np.array(-most, np.float32), np.array(most, np.float32)) for name, most in tied.items()}
    one_scale = [{"quant_type": quantization.QuantType.QInt8, "symmetric": True}]
    deconvolved = [node for node in network.graph.node if node.op_type == "ConvTranspose" and node.name in wanted]
    with tempfile.TemporaryDirectory(prefix="edge-agent-quantise-") as text:
        ranges, out = Path(text) / "ranges.json", Path(text) / "quantised.onnx"
        save_tensors_data(TensorsData(minmax, data), ranges)
        quantization.quantize_static(
            network,
            out,
            None,
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(OBSERVED),
            nodes_to_quantize=wanted,
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=minmax,
            calibration_cache_path=ranges,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": True,  # TensorRT before 10 reads weights as floats with a pair
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": list(_QUIET),
                "TensorQuantOverrides": {node.input[1]: one_scale for node in deconvolved},
            },
        )
        return onnx.load(str(out))


def _drop_pairs_behind(network: Any, operators: Collection[str]) -> None:
    """Take away pairs whose input comes from one of these operators, where all that goes in there comes from a pair of the same
    scale: they would round to the very same steps once more."""
    nodes = list(network.graph.node)
    makers = {output: node for node in nodes for output in node.output}
    scales = _scales(network)
    instead: dict[str, str] = {}
    gone: set[str] = set()
    for node in nodes:
        quantise = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        behind = makers.get(quantise.input[0]) if quantise is not None else None
        if quantise is None or behind is None or behind.op_type not in operators:
            continue
        if _has_scale(behind, scales.get(node.input[1]), scales, makers):
            instead[node.output[0]] = quantise.input[0]
            gone |= {node.name, quantise.name}
    kept = [node for node in nodes if node.name not in gone]
    for node in kept:
        node.input[:] = [instead.get(name, name) for name in node.input]
    del network.graph.node[:]
    network.graph.node.extend(kept)


def _has_scale(source: Any, scale: float | None, scales: dict[str, float], makers: dict[str, Any]) -> bool:
    """True where a node is the end of a pair of this scale, or only passes on what comes from such ones."""
    if source is None or scale is None:
        return False
    if source.op_type == "DequantizeLinear":
        return scales.get(source.input[1]) == scale
    if source.op_type not in PASSES:
        return False
    inputs = source.input if source.op_type == "Concat" else source.input[:1]
    return all(_has_scale(makers.get(name), scale, scales, makers) for name in inputs)


def _scales(network: Any) -> dict[str, float]:
    """Every constant that is one float, by its name."""
    from onnx import TensorProto, numpy_helper

    single = [each for each in network.graph.initializer if each.data_type == TensorProto.FLOAT and np.prod(each.dims) == 1]
    return {each.name: float(numpy_helper.to_array(each).item()) for each in single}


def _drop_unused(network: Any) -> None:
    used = {name for node in network.graph.node for name in node.input}
    kept = [each for each in network.graph.initializer if each.name in used]
    del network.graph.initializer[:], network.graph.value_info[:]
    network.graph.initializer.extend(kept)
