"""Frame to probability map. In: uint8 pictures of the network's size. Out: uint8 maps per defect class and a float peak.

The engine runs on threads of its own and calls back; preparation runs on the inspect worker. A failure is an EngineError
(the part is FAULT engine), an unusable model file a ConfigurationError (exit 78).
"""

from __future__ import annotations

from pathlib import Path

from edge_agent.inference.base import Segmenter
from edge_agent.inference.cpu import CpuSegmenter
from edge_agent.inference.model import Model
from edge_agent.inference.recorded import RecordedSegmenter
from edge_agent.settings import CpuEngine, EngineSettings, RecordedEngine


def open_segmenter(settings: EngineSettings, model: Model, base: Path) -> Segmenter:
    """Return the engine that the settings name, ready to be warmed up; paths are relative to `base`."""
    match settings:
        case CpuEngine():
            return CpuSegmenter(settings, model)
        case RecordedEngine():
            return RecordedSegmenter(base / settings.path, base / settings.order if settings.order else None, model)
