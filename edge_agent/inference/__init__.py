"""Frame to probability map. In: uint8 pictures of the network's size. Out: uint8 maps per defect class and a float peak.

The engine runs on threads of its own and calls back; preparation runs on the inspect worker. A failure is an EngineError
(the part is FAULT engine), an unusable model file a ConfigurationError (exit 78).
"""

from __future__ import annotations

from pathlib import Path

from edge_agent.errors import ConfigurationError, EngineError
from edge_agent.events import say
from edge_agent.inference.base import Segmenter
from edge_agent.inference.cpu import open_cpu
from edge_agent.inference.model import Model
from edge_agent.inference.probe import probe
from edge_agent.inference.recorded import RecordedSegmenter
from edge_agent.inference.tensorrt import find_engine, open_tensorrt
from edge_agent.inference.tensorrt.build import Progress
from edge_agent.inference.tensorrt.store import Refused
from edge_agent.settings import AutoEngine, CpuEngine, EngineSettings, RecordedEngine, TensorRtEngine

ENGINES = "engines"  # the folder in the station's state where built engines are kept


def open_segmenter(settings: EngineSettings, model: Model, base: Path, state: Path, progress: Progress | None = None) -> Segmenter:
    """Return the engine that the settings name, ready to be warmed up; paths are relative to `base`, engines are kept in `state`.

    A network is tried on a few pictures first. Raises ConfigurationError for one that is not what its papers say,
    EngineUnavailable where a GPU, its driver or library is missing. A build tells `progress` how far it is, for minutes.
    """
    match settings:
        case CpuEngine():
            return _open_cpu(settings, model)
        case RecordedEngine():
            return RecordedSegmenter(base / settings.path, base / settings.order if settings.order else None, model)
        case TensorRtEngine():
            return _open_tensorrt(settings, model, state, progress)
        case AutoEngine():
            try:
                return _open_tensorrt(TensorRtEngine(), model, state, progress)
            except (EngineError, ConfigurationError) as error:
                say("engine.fallback", model=model.papers.name, why=str(error))
                return _open_cpu(CpuEngine(), model)


def kept_engine(settings: EngineSettings, model: Model, state: Path) -> str | None:
    """The id of the built engine that opening would take from `state`, '' where it would build one first, None where none is built.

    Raises ConfigurationError, EngineUnavailable as `open_segmenter` would."""
    match settings:
        case TensorRtEngine():
            try:
                return find_engine(settings, model, state / ENGINES).engine_id
            except Refused:
                return ""
        case AutoEngine():
            try:
                return kept_engine(TensorRtEngine(), model, state)
            except (EngineError, ConfigurationError):
                return None
        case _:
            return None


def _open_cpu(settings: CpuEngine, model: Model) -> Segmenter:
    segmenter, doubts = open_cpu(settings, model)
    for doubt in doubts:
        say("engine.model_doubtful", model=model.papers.name, why=doubt)
    return segmenter


def _open_tensorrt(settings: TensorRtEngine, model: Model, state: Path, progress: Progress | None) -> Segmenter:
    segmenter = open_tensorrt(settings, model, state / ENGINES, progress)
    try:
        segmenter.warm_up()  # a GPU that fails is no fault of the model's
        probe(segmenter, model, lambda _: "")
    except BaseException:
        segmenter.close()
        raise
    return segmenter
