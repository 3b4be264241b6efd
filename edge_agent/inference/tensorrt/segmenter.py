"""The engine itself: one thread that owns the GPU's context, two or three lanes, and the queue by which work comes to it.

The thread launches what is submitted and looks for what is done; while something is under way it sleeps until about when that
should be, so that a lane's copies overlap another's kernels and nobody spins. Any error of CUDA's is final: the parts under way
fail, and EngineLost goes to the process's hook for failed threads, which ends the process for its supervisor to start again. The
thread itself stays where it is: in a broken context nothing can be freed, nor can the context be popped.
"""

from __future__ import annotations

import contextlib
import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np

from edge_agent.errors import ConfigurationError, EngineError, EngineLost
from edge_agent.events import say
from edge_agent.inference.base import Done, TensorSlot, median_ms
from edge_agent.inference.graph import FRAMES, MAP, PEAK
from edge_agent.inference.model import Model
from edge_agent.inference.slots import SlotPool
from edge_agent.inference.tensorrt.api import Library, load_engine, make_log, ports_of
from edge_agent.inference.tensorrt.cuda import Gpu, let_go, park
from edge_agent.inference.tensorrt.lane import COPIED, MAPPED, Lane
from edge_agent.inference.tensorrt.pagelock import Span
from edge_agent.records import Pixels
from edge_agent.settings import TensorRtEngine

_WARM_UPS = 10  # of each slot
_TRIALS = 20  # inferences by which mapped memory is held against copies
_HANG_S = 5.0  # no answer for so long: the GPU hangs
_TICK_S = 50e-6  # between looks, about when an answer is due; the kernel's own timer slack is as long
_EARLY = 0.95  # of the usual time one sleeps before looking
_FOLLOW = 0.1  # how fast the usual time changes with one inference
_CLOSE_S = 10.0
_STOP = object()
_Work = tuple[TensorSlot, Pixels, Done]


class TensorRtSegmenter:
    """A TensorRT engine on one GPU. See `base.Segmenter`."""

    def __init__(self, gpu: Gpu, library: Library, plan: bytes, model: Model, settings: TensorRtEngine, engine_id: str) -> None:
        """Raises EngineError for a plan that is not for this GPU, EngineUnavailable for want of memory, EngineLost for a GPU that
        broke meanwhile."""
        papers = model.papers
        self.rows, self.cols, self.classes = papers.input.rows, papers.input.cols, tuple(papers.classes)
        self.model_hash, self.engine_id, self.slots = model.hash, engine_id, settings.slots
        self.memory, self.graph_nodes = COPIED, 0
        self._gpu, self._library, self._plan, self._model, self._settings = gpu, library, plan, model, settings
        self._work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._flying: deque[tuple[Lane, Done]] = deque()
        self._locked: list[Span] = []  # page-locked memory of others
        self._lost = ""
        self._lock = threading.Lock()  # of `_lost`, against work that comes meanwhile
        self._usual_s = 0.0
        self._lanes: list[Lane] = []
        self._ended = threading.Event()  # closed, or lost
        opened: Future[None] = Future()
        self.thread = threading.Thread(target=self._run, args=(opened,), name="gpu", daemon=True)
        self.thread.start()
        opened.result()
        self._plan = b""

    # --- any thread ---------------------------------------------------------------------------------------------------
    def submit(self, slot: TensorSlot, source: Pixels, done: Done) -> None:
        """Start inference; `source` in memory that was adopted is copied from where it lies. Raises EngineError once lost."""
        self._put((slot, source, done))

    def adopt(self, memory: Pixels) -> None:
        """Page-lock memory that pictures will be submitted from, so that the GPU fetches them itself. Returns when it is done."""
        adopted: Future[None] = Future()
        with contextlib.suppress(EngineError, futures.TimeoutError):  # of a lost engine its parts will tell
            self._put((memory, adopted))
            adopted.result(timeout=_CLOSE_S)

    def _put(self, item: Any) -> None:
        with self._lock:
            if self._lost:
                raise EngineError(self._lost)
            self._work.put(item)

    def warm_up(self) -> float:
        """Run every slot a few times; return the median latency in ms. Raises EngineLost."""
        return median_ms(self, _WARM_UPS, EngineLost)

    def close(self) -> None:
        """Wait for what is under way, then free everything in order. After a loss there is nothing left to free."""
        self._work.put(_STOP)
        if self._ended.wait(_CLOSE_S) and not self._lost:
            self.thread.join()

    # --- the GPU's thread ---------------------------------------------------------------------------------------------
    def _run(self, opened: Future[None]) -> None:
        failure = _failure_of(self._open)
        if failure is not None:
            self._end_unopened(opened, failure)
            return
        opened.set_result(None)
        del opened
        failure = _failure_of(self._serve) or _failure_of(self._close)
        if failure is not None:
            self._end_lost(failure)
        self._ended.set()

    def _open(self) -> None:
        with self._gpu.translated("the engine"):
            self._gpu.push()
            self._log = make_log(self._library)
            self._runtime, self._engine = load_engine(self._library, self._log, self._plan)
            self._require_ports()
            self.memory = self._choose_memory()
            for index in range(self.slots):
                self._lanes.append(self._lane(index, self.memory))
            doubts = {why for lane in self._lanes if (why := lane.prepare(self._settings.graph))}
        for why in doubts:
            say("engine.slower", why=f"no CUDA graph: {why}")
        self.graph_nodes = self._lanes[0].nodes
        pool = SlotPool([lane.slot for lane in self._lanes])
        self.lease, self.release, self.forgo = pool.lease, pool.release, pool.forgo

    def _lane(self, index: int, memory: str) -> Lane:
        shape = (len(self.classes), self.rows, self.cols)
        return Lane(self._gpu, self._library, self._log, self._engine, index, shape, memory)

    def _require_ports(self) -> None:
        rows, cols, classes = self.rows, self.cols, len(self.classes)
        wanted = {
            FRAMES: (True, (1, 1, rows, cols), "UINT8"),
            MAP: (False, (1, classes, rows, cols), "UINT8"),
            PEAK: (False, (1,), "FLOAT"),
        }
        found = ports_of(self._library, self._engine)
        if found != wanted:
            raise ConfigurationError(
                [
                    self._model.problem(
                        f"the engine's tensors are {found}, expected {wanted}.", "mend classes, head, layout or sizes."
                    )
                ]
            )

    def _choose_memory(self) -> str:
        """Copies, but on a GPU that shares the host's memory whatever is faster there."""
        wanted = self._settings.memory
        if wanted != "auto":
            return wanted
        if not self._gpu.is_integrated:
            return COPIED
        lanes = {memory: self._lane(0, memory) for memory in (COPIED, MAPPED)}
        self._lanes += lanes.values()  # freed with the rest where it fails
        picture = np.zeros((self.rows, self.cols), np.uint8)
        times: dict[str, list[float]] = {COPIED: [], MAPPED: []}
        for lane in lanes.values():
            lane.prepare(self._settings.graph)
        for _ in range(_TRIALS):  # in turns, since clocks rise meanwhile
            for memory, lane in lanes.items():
                began = time.perf_counter()
                lane.launch(lane.tensor if memory == COPIED else picture, True, began)  # mapped, the processor copies a frame slot
                lane.stream.synchronize()
                times[memory].append(time.perf_counter() - began)
        for lane in self._lanes:
            lane.close_execution()
        for lane in self._lanes:
            lane.close_memory()
        self._lanes.clear()
        return min(times, key=lambda memory: statistics.median(times[memory][_TRIALS // 4 :]))

    def _serve(self) -> None:
        """Until `_STOP`: launch what comes, finish what is done."""
        stopping = False
        while not (stopping and not self._flying):
            try:
                item = self._work.get(timeout=self._patience_s())
            except queue.Empty:
                if not self._flying and not stopping:
                    self._keep_warm()
                item = None
            if item is _STOP:
                stopping = True
            elif item is not None and len(item) == 3:
                self._launch(*item)
            elif item is not None:
                self._adopt(*item)
            self._finish()

    def _patience_s(self) -> float | None:
        """How long to wait for work before looking after what is under way; None is for as long as it takes."""
        if not self._flying:
            return self._settings.keep_warm_ms / 1e3 or None
        due_s = self._flying[0][0].launched_s + self._usual_s * _EARLY
        return max(_TICK_S, due_s - time.monotonic())

    def _launch(self, slot: TensorSlot, source: Pixels, done: Done) -> None:
        lane = self._lanes[slot.index]
        self._flying.append((lane, done))  # first: what fails in launching is under way too
        lane.launch(source, source is slot.tensor or self._is_locked(source), time.monotonic())

    def _is_locked(self, source: Pixels) -> bool:
        address = source.__array_interface__["data"][0]
        return any(first <= address and address + source.nbytes <= first + size for first, size in self._locked)

    def _finish(self) -> None:
        """Hand over every answer that is there, in whatever order they came."""
        now_s = time.monotonic()
        for _ in range(len(self._flying)):
            lane, done = self._flying[0]
            if lane.is_done():
                self._flying.popleft()
                self._usual_s = next_usual_s(self._usual_s, lane.seen_s - lane.launched_s, now_s - lane.launched_s)
                lane.slot.done_ns = time.monotonic_ns()
                done(lane.slot)
            elif now_s - lane.launched_s > _HANG_S:
                raise EngineError(f"the GPU gave no answer within {_HANG_S:g} s")
            else:
                lane.seen_s = now_s
                self._flying.rotate(-1)

    def _keep_warm(self) -> None:
        """An inference of whatever lies in a free slot: an idle GPU lowers its clocks, and the next part would pay for it."""
        slot = self.lease()
        if slot is not None:
            self._launch(slot, slot.tensor, self.release)

    def _adopt(self, memory: Pixels, adopted: Future[None]) -> None:
        if not self._is_locked(memory):
            try:
                self._locked.append(self._gpu.lock(memory))
            except EngineError as error:  # copied by the processor instead, as any picture elsewhere
                say("engine.slower", why=f"locking the frame slots: {error}")
        adopted.set_result(None)

    # --- the end ------------------------------------------------------------------------------------------------------
    def _end_unopened(self, opened: Future[None], failure: BaseException) -> None:
        """Free what was made, then tell whoever waits. Does not return where the context broke: then everything stays."""
        broken = _failure_of(self._gpu.settle)
        if broken is None:
            let_go(failure)
            broken = _failure_of(self._close)
        if broken is None:
            opened.set_exception(failure)
            return
        opened.set_exception(EngineLost(f"the GPU is lost: {failure}"))
        park()

    def _end_lost(self, failure: BaseException) -> None:
        """Fail what is under way, tell the process, and stay."""
        self._lose(str(failure) or repr(failure))
        is_the_gpus = isinstance(failure, (EngineError, self._gpu.Error))
        lost = EngineLost(self._lost) if is_the_gpus else failure
        self._ended.set()
        try:
            threading.excepthook(threading.ExceptHookArgs((type(lost), lost, lost.__traceback__, self.thread)))
        finally:
            park()

    def _lose(self, why: str) -> None:
        """Fail everything under way and everything queued; nothing is freed: the context is broken, and ends with the process."""
        with self._lock:
            self._lost = f"the GPU is lost: {why}"
        waiting = [(lane.slot, done) for lane, done in self._flying]
        self._flying.clear()
        while not self._work.empty():
            item = self._work.get()
            if item is not _STOP and len(item) == 3:
                waiting.append((item[0], item[2]))
            elif item is not _STOP:
                item[1].set_exception(EngineError(self._lost))
        for slot, done in waiting:
            slot.failure, slot.done_ns = self._lost, time.monotonic_ns()
            _failure_of(partial(done, slot))  # an error here is the second: the first is being told

    def _close(self) -> None:
        """Graphs and contexts, engine, runtime, memory and streams, the context: nothing outlives what it needs.

        Raises EngineError, pycuda's errors where the context broke."""
        self._gpu.settle()
        for lane in self._lanes:
            lane.close_execution()
        self._engine = None
        self._runtime = None
        for lane in self._lanes:
            lane.close_memory()
        self._lanes.clear()
        while self._locked:
            self._gpu.unlock(self._locked.pop())
        self._gpu.pop()


def next_usual_s(usual_s: float, under_way_s: float, done_s: float) -> float:
    """The time to expect, after an inference that was seen under way so long after its launch, and next seen done.

    One that nobody saw under way when it was due may have been done for long, for a sleep always lasts longer than asked for: to
    follow `done_s` then would be to follow one's own oversleeping. So a little less is expected, until a look comes too early."""
    if under_way_s < usual_s * _EARLY:
        return min(usual_s, done_s) * (1 - _FOLLOW)
    return usual_s + _FOLLOW * (done_s - usual_s)


def _failure_of(work: Callable[[], None]) -> BaseException | None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001  # what it means depends on when it came
        return error
    return None
