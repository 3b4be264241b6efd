"""What values each activation takes on real frames: measured by onnxruntime's calibrators, then made symmetric and tied."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from edge_agent.calibration.trunk import CONVOLUTIONS, PASSES
from edge_agent.errors import ConfigurationError
from edge_agent.records import Pixels

Method = Literal["minmax", "percentile"]
Ranges = dict[str, float]  # the largest magnitude that a tensor is given steps for
OBSERVED = (*CONVOLUTIONS, *PASSES)  # operators whose inputs and outputs are looked at
_LEAST = 1e-6  # of a tensor that is always 0: a scale must not be


def measure_ranges(
    network: Any, frames: Iterable[Pixels], method: Method, percentile: float, advance: Callable[[], None]
) -> Ranges:
    """Return the largest magnitude of every tensor around a convolution, over frames (rows, cols) uint8; with `percentile` the
    magnitude that so many per cent of a tensor's values do not exceed. Memory does not grow with the number of frames."""
    quantization = require_onnxruntime()
    from onnxruntime.quantization.calibrate import create_calibrator

    methods = {"minmax": quantization.CalibrationMethod.MinMax, "percentile": quantization.CalibrationMethod.Percentile}
    options = {"symmetric": True} | ({"percentile": percentile} if method == "percentile" else {})
    name = network.graph.input[0].name
    with tempfile.TemporaryDirectory(prefix="edge-agent-calibrate-") as folder:
        file = Path(folder) / "network.onnx"
        file.write_bytes(network.SerializeToString())
        calibrator = create_calibrator(
            file, list(OBSERVED), str(Path(folder) / "observed.onnx"), methods[method], extra_options=options
        )
        for frame in frames:
            with contextlib.redirect_stdout(io.StringIO()):  # it tells of its progress there
                calibrator.collect_data(_one(quantization, {name: frame[None, None]}))
            advance()
        with contextlib.redirect_stdout(io.StringIO()):
            found = calibrator.compute_data()
    return {tensor: max(abs(float(each)) for each in _ends(data)) for tensor, data in found.items()}


def _one(quantization: Any, feed: Mapping[str, Any]) -> Any:
    """A reader of one frame: all at once would keep every activation of every frame."""

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter([feed])

        def get_next(self) -> Any:
            return next(self._feeds, None)

    return Reader()


def _ends(data: Any) -> tuple[float, float]:
    low, high = data.range_value
    return float(low.item() if hasattr(low, "item") else low), float(high.item() if hasattr(high, "item") else high)


def tie(ranges: Ranges, network: Any, names: Collection[str]) -> Ranges:
    """One range for what a concatenation joins and gives, and for both ends of a pooling, where these nodes are among `names`:
    nothing is scaled anew in between."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.get(name, name) != name:
            name = leader[name]
        return name

    for node in network.graph.node:
        if node.op_type in PASSES and node.name in names:
            inputs = node.input if node.op_type == "Concat" else node.input[:1]
            for name in inputs:
                leader[find(name)] = find(node.output[0])
    largest: Ranges = {}
    for name, value in ranges.items():
        largest[find(name)] = max(largest.get(find(name), _LEAST), value)
    return {name: largest[find(name)] for name in ranges}


def require_onnxruntime() -> Any:
    """Return onnxruntime.quantization, its advice silenced, and without its telemetry: that of 1.32 looks up
    mobile.events.data.microsoft.com, and a station speaks to the addresses in its settings alone. Raises ConfigurationError where
    it is missing."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it looks as it is loaded
    try:
        from onnxruntime import quantization
    except ImportError as error:
        message = f"making candidates needs onnxruntime 1.31, which cannot be loaded: {error}"
        remedy = "pip install 'edge-agent[calibrate]', with Python 3.11 or newer; one of 3.10 tries those made elsewhere: "
        remedy += "`calibrate --gate-only`, `benchmark engine --candidates DIR`."
        raise ConfigurationError.of(message, remedy) from None
    logging.getLogger().setLevel(max(logging.getLogger().level, logging.ERROR))  # it advises on the root logger
    return quantization
