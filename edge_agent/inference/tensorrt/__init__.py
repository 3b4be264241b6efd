"""TensorRT 8.5 to 11 and TensorRT-RTX on an NVIDIA GPU. In: a model and its settings. Out: a Segmenter, built and checked.

What has no GPU, no library or too little memory is EngineUnavailable, which may come; a network that cannot be built a
ConfigurationError. Files: `api` the library's versions, `cuda` and `cugraph` the driver, `lane` one inference in flight,
`segmenter` the thread and its queue, `pagelock` the frame rings, `network` the ONNX, `build` and `child` the building, `store` the
files, `parity` the check, `timing` what `benchmark engine` measures with.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge_agent.errors import EngineError
from edge_agent.events import say
from edge_agent.inference.model import Model
from edge_agent.inference.tensorrt.api import Library, load_library
from edge_agent.inference.tensorrt.build import Progress, build_aside
from edge_agent.inference.tensorrt.cuda import Gpu
from edge_agent.inference.tensorrt.network import Network, network_of
from edge_agent.inference.tensorrt.parity import Differs, require_parity
from edge_agent.inference.tensorrt.segmenter import TensorRtSegmenter
from edge_agent.inference.tensorrt.store import EngineKey, Manifest, Refused, read_engine, write_engine
from edge_agent.settings import TensorRtEngine

_TOLD_S = 10.0  # a build is told about so often
_differed: dict[Path, str] = {}  # of this process: files of engines that were built and are not the network, and how far from it


def open_tensorrt(
    settings: TensorRtEngine, model: Model, folder: Path, progress: Progress | None = None, *, rebuild: bool = False
) -> TensorRtSegmenter:
    """Return the engine, from `folder` or built now, checked against the CPU's maps after every build.

    Raises EngineUnavailable, ConfigurationError, and EngineError for an engine that is not the network; that one is built again by
    the next process, or with `rebuild`."""
    library, gpu = load_library(settings.library), Gpu(settings.device)
    network = network_of(model)
    key = key_of(library, gpu, network, settings)
    file = folder / f"{model.papers.name}-{key.digest}.engine"
    if not rebuild:
        try:
            stored = read_engine(file, key)
            if stored is not None:
                return _open(gpu, library, stored[1], model, settings, key)
        except Refused as error:
            say("engine.refused", model=model.papers.name, why=str(error))
        except EngineError as error:
            if type(error) is not EngineError:
                raise
            say("engine.refused", model=model.papers.name, why=f"{file}: {error}")
        if file in _differed:  # a try once a minute is for what may come; this would be built for minutes to fail again
            raise EngineError(_differed[file])
    return _build(gpu, library, network, model, settings, key, file, progress)


@dataclass(frozen=True, slots=True)
class Found:
    """The engine that `open_tensorrt` would take; where it would build one `manifest` is None and `engine_id` empty."""

    engine_id: str
    file: Path
    manifest: Manifest | None


def find_engine(settings: TensorRtEngine, model: Model, folder: Path) -> Found:
    """Look for the engine and open nothing. Raises EngineUnavailable, ConfigurationError, Refused for a foreign or damaged one."""
    library, gpu = load_library(settings.library), Gpu(settings.device)
    key = key_of(library, gpu, network_of(model), settings)
    file = folder / f"{model.papers.name}-{key.digest}.engine"
    stored = read_engine(file, key)
    return Found(_id(library, gpu, key, stored[0].sha256), file, stored[0]) if stored is not None else Found("", file, None)


def _id(library: Library, gpu: Gpu, key: EngineKey, plan_sha256: str) -> str:
    return f"{library.name}-{library.version}/{gpu.name}/{key.name_of(plan_sha256)}"


def key_of(library: Library, gpu: Gpu, network: Network, settings: TensorRtEngine) -> EngineKey:
    return EngineKey(
        library=library.name,
        version=library.version,
        network_hash=network.sha256,
        gpu=gpu.name,
        capability=gpu.capability,
        driver=gpu.driver_version,
        options={"workspace_mb": settings.workspace_mb, "optimization": settings.optimization},
    )


def _open(gpu: Gpu, library: Library, plan: bytes, model: Model, settings: TensorRtEngine, key: EngineKey) -> TensorRtSegmenter:
    engine_id = _id(library, gpu, key, hashlib.sha256(plan).hexdigest())
    return TensorRtSegmenter(gpu, library, plan, model, settings, engine_id)


def _build(
    gpu: Gpu,
    library: Library,
    network: Network,
    model: Model,
    settings: TensorRtEngine,
    key: EngineKey,
    file: Path,
    progress: Progress | None,
) -> TensorRtSegmenter:
    """Build, open and check; only an engine that passed is stored."""
    name, began = model.papers.name, time.monotonic()
    say("engine.building", model=name, library=f"{library.name} {library.version}", gpu=gpu.name)
    plan = build_aside(
        network,
        file.parent / f"timing-{key.timing}.cache",
        library.name,
        settings.workspace_mb,
        settings.optimization,
        _telling(name, progress),
        device=settings.device,
    )
    segmenter = _open(gpu, library, plan, model, settings, key)
    try:
        parity = require_parity(segmenter, model, file.parent / f"{name}-{network.sha256[:16]}.maps")
    except BaseException as error:
        segmenter.close()
        if isinstance(error, Differs):
            _differed[file] = str(error)
        raise
    if not parity:
        say("engine.unverified", model=name)
    _store(file, key, plan, parity, name)
    say("engine.built", model=name, seconds=round(time.monotonic() - began, 1), parity=parity, file=str(file))
    return segmenter


def _store(file: Path, key: EngineKey, plan: bytes, parity: str, name: str) -> None:
    """An engine that cannot be stored is as good; the next start builds it again."""
    built = datetime.now(timezone.utc).isoformat(timespec="seconds")
    manifest = Manifest(key=key, sha256=hashlib.sha256(plan).hexdigest(), bytes=len(plan), built=built, parity=parity)
    try:
        write_engine(file, manifest, plan)
    except OSError as error:
        say("engine.not_stored", model=name, why=f"{file}: {error.strerror}")


def _telling(name: str, progress: Progress | None) -> Progress:
    """Every word goes to `progress`; the log gets one now and then."""
    told_s = time.monotonic()

    def tell(text: str) -> None:
        nonlocal told_s
        if progress is not None:
            progress(text)
        if text and time.monotonic() - told_s > _TOLD_S:
            told_s = time.monotonic()
            say("engine.build_goes_on", model=name, at=text)

    return tell
