"""Frame to probability map. In: uint8 pictures of the network's size. Out: uint8 maps per defect class and a float peak.

The engine runs on threads of its own and calls back; preparation runs on the inspect worker. A failure is an EngineError
(the part is FAULT engine), an unusable model file a ConfigurationError (exit 78).
"""

from __future__ import annotations

from pathlib import Path

from edge_agent.events import say
from edge_agent.inference.base import Segmenter
from edge_agent.inference.cpu import open_cpu
from edge_agent.inference.model import Model
from edge_agent.inference.recorded import RecordedSegmenter
from edge_agent.settings import CpuEngine, EngineSettings, RecordedEngine


def open_segmenter(settings: EngineSettings, model: Model, base: Path) -> Segmenter:
    """Return the engine that the settings name, ready to be warmed up; paths are relative to `base`.

    A network is tried on a few pictures first. Raises ConfigurationError for one that is not what its papers say.
    """
    match settings:
        case CpuEngine():
            segmenter, doubts = open_cpu(settings, model)
            for doubt in doubts:
                say("engine.model_doubtful", model=model.papers.name, why=doubt)
            return segmenter
        case RecordedEngine():
            return RecordedSegmenter(base / settings.path, base / settings.order if settings.order else None, model)
