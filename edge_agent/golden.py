"""Known pictures judged before the first part: what is known to be good must pass, what is known to be bad must not.

A model that loads and gives maps may still be the wrong one, or its engine miscalculate. Parts would tell, too late.
"""

from __future__ import annotations

import queue
import time
from pathlib import Path

from edge_agent.bundle import Bundle
from edge_agent.errors import CameraError, ConfigurationError, EngineError, UnbelievableMap
from edge_agent.events import say
from edge_agent.inference.base import TensorSlot
from edge_agent.inference.prepare import RegionError
from edge_agent.pictures import read_gray
from edge_agent.records import NG, PASS, Frame, Judgement, Part

_WAIT_S = 60.0  # for a tensor slot, and for a map
_NEVER_NS = 1 << 62


def prove(bundle: Bundle, folder: Path) -> None:
    """The recipe's golden pictures, relative to `folder`, come out as they must.

    Raises ConfigurationError naming the picture that does not, EngineError where the engine does not answer: that is no fault of
    recipe or picture, and may pass. May run beside the line: it takes its turn at the engine. Maps that
    are played back belong to no picture, and prove nothing."""
    golden = bundle.recipe.golden
    if golden is None:
        say("line.unproven", recipe=bundle.recipe.name)
        return
    if bundle.segmenter.engine_id == "recorded":
        return
    for expected, names in ((PASS, golden.good), (NG, golden.bad)):
        for name in names:
            found = _judged(bundle, folder / name)
            if found.outcome != expected:
                raise ConfigurationError(
                    f"golden picture {folder / name}: is {found.outcome} ({', '.join(found.reasons) or 'all rules kept'}) "
                    f"by recipe {bundle.recipe.name}, and must be {expected}. Mend the recipe, its model or the picture."
                )


def _judged(bundle: Bundle, file: Path) -> Judgement:
    try:
        pixels = read_gray(file)
        part = Part("golden", 0, 0, file.name, 0, time.monotonic_ns(), _NEVER_NS, bundle.identity)
        return judge(bundle, part, Frame(0, pixels, 0, file.name, is_live=False))
    except (CameraError, RegionError, UnbelievableMap) as error:
        why = str(error).rstrip(".")  # some end with their remedy
        raise ConfigurationError(f"golden picture {file}: {why}. Mend golden in recipe {bundle.recipe.name}.") from None


def judge(bundle: Bundle, part: Part, frame: Frame) -> Judgement:
    """Return the judgement of one picture; blocks for as many inferences as it has tensors. Raises RegionError, EngineError."""
    inspection = bundle.begin(part, frame)
    judgement = inspection.look()
    while judgement is None:
        done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
        slot = _leased(bundle)
        try:
            inspection.submit(slot, done.put)
            judgement = inspection.take_map(done.get(timeout=_WAIT_S))
        except queue.Empty:
            raise EngineError(f"no map came within {_WAIT_S:g} s") from None  # the slot is the engine's, and stays lost
        except BaseException:
            bundle.segmenter.release(slot)
            raise
        bundle.segmenter.release(slot)
    return judgement


def _leased(bundle: Bundle) -> TensorSlot:
    """A tensor slot, after those who wait already."""
    turn: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake() -> None:
        turn.put(None)

    while (slot := bundle.segmenter.lease(wake)) is None:
        try:
            turn.get(timeout=_WAIT_S)
        except queue.Empty:
            bundle.segmenter.forgo(wake)
            raise EngineError(f"no tensor slot within {_WAIT_S:g} s") from None
    return slot
