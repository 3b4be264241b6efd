"""The CPU engine on networks whose answer is known, in every form model.yaml can tell."""

from __future__ import annotations

import gc
import os
import queue
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from bright import CENTRE, SLOPE, gray, with_defect, write_bright_model, write_float_model, write_papers

from edge_agent.errors import ConfigurationError, EngineError
from edge_agent.inference.base import TensorSlot
from edge_agent.inference.believe import require_believable
from edge_agent.inference.cpu import CpuSegmenter, open_batch, raw_answer
from edge_agent.inference.graph import FRAMES, finish, read_network
from edge_agent.inference.model import load_model
from edge_agent.settings import CpuEngine

ENGINE = CpuEngine(hint="latency", requests=2, threads=1)


def segment(folder: Path, frame: np.ndarray) -> TensorSlot:
    engine = CpuSegmenter(ENGINE, load_model(folder))
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    slot = engine.lease()
    assert slot is not None
    engine.submit(slot, frame, done.put)
    assert done.get(timeout=10) is slot
    engine.close()
    return slot


def expected(frame: np.ndarray) -> np.ndarray:
    return np.round(255 / (1 + np.exp(-(frame.astype(np.float64) - CENTRE) * SLOPE))).astype(np.uint8)


def test_map_and_peak_agree_with_arithmetic(tmp_path: Path) -> None:
    frame = with_defect(gray(), 10, 20, 8, 6)
    slot = segment(write_bright_model(tmp_path / "bright"), frame)
    assert np.abs(slot.maps[0].astype(int) - expected(frame)).max() <= 1
    assert slot.peak[0] == pytest.approx((250 - CENTRE) * SLOPE, abs=1e-3)
    require_believable(slot, int(slot.maps.max()))


def test_float32_is_computed_in_float32_whatever_the_processor_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, own = [], openvino.Core.compile_model

    def noted(core: openvino.Core, *words: Any) -> Any:
        compiled.append(own(core, *words))
        return compiled[-1]

    monkeypatch.setattr(openvino.Core, "compile_model", noted)
    write_bright_model(tmp_path)
    segment(tmp_path, gray())
    model = load_model(tmp_path)
    open_batch(finish(read_network(model), model.papers), FRAMES, 2, (64, 64))
    raw_answer(model, gray())
    assert [each.get_property("INFERENCE_PRECISION_HINT") for each in compiled] == [openvino.Type.f32] * 3


def test_every_slot_gives_its_own_answer(tmp_path: Path) -> None:
    engine = CpuSegmenter(ENGINE, load_model(write_bright_model(tmp_path / "bright")))
    engine.warm_up()
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    frames = [gray(level=level) for level in range(100, 160)]
    waiting, results = list(enumerate(frames)), {}
    while len(results) < len(frames):
        while waiting and (slot := engine.lease()) is not None:
            index, frame = waiting.pop(0)
            slot.ticket = index
            engine.submit(slot, frame, done.put)
        slot = done.get(timeout=10)
        results[slot.ticket] = slot.maps.copy()
        engine.release(slot)
    engine.close()
    for index, frame in enumerate(frames):
        assert np.abs(results[index][0].astype(int) - expected(frame)).max() <= 1


def test_a_damaged_weight_is_never_believed(tmp_path: Path) -> None:
    slot = segment(write_bright_model(tmp_path / "bright", nan=True), gray())
    with pytest.raises(EngineError, match=r"not finite|peak logit is|damaged"):
        require_believable(slot, int(slot.maps.max()))


@pytest.mark.parametrize(("level", "peak"), [(0, 5.0), (255, -5.0), (128, float("nan")), (0, float("-inf")), (255, float("inf"))])
def test_contradictions_are_refused(level: int, peak: float) -> None:
    slot = TensorSlot(0, np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2), np.uint8), np.array([peak], np.float32))
    with pytest.raises(EngineError):
        require_believable(slot, level)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", ["probability", "logits"])
@pytest.mark.parametrize(
    ("head", "channels", "background"),
    [
        ("sigmoid", 1, None),
        ("sigmoid", 3, None),
        ("sigmoid", 2, "last"),
        ("softmax", 1, None),
        ("softmax", 3, "first"),
        ("softmax", 1, "last"),
        ("softmax", 3, "last"),
        ("softmax", 3, "none"),
    ],
)
def test_every_form_of_head_and_layout(
    tmp_path: Path, layout: str, kind: str, head: str, channels: int, background: str | None
) -> None:
    frame = with_defect(gray(32, 32), 4, 6, 9, 5)
    slot = segment(write_float_model(tmp_path / "m", layout, kind, head, channels, background=background), frame)
    z = (frame.astype(np.float64) - CENTRE) * SLOPE
    logits = np.stack([z - i for i in range(channels)])
    if head == "sigmoid":
        probability = 1 / (1 + np.exp(-logits))
    else:
        total = np.exp(logits).sum(0) + (background != "none")  # the background's logit is 0
        probability = np.exp(logits) / total
    assert np.abs(slot.maps.astype(int) - np.round(probability * 255)).max() <= 1
    require_believable(slot, int(slot.maps.max()))


@pytest.mark.parametrize("kind", ["probability", "logits"])
@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_a_damaged_weight_is_never_believed_in_any_form(tmp_path: Path, kind: str, head: str) -> None:
    slot = segment(write_float_model(tmp_path / "m", "NCHW", kind, head, 1, slope=float("nan")), gray(32, 32))
    with pytest.raises(EngineError):
        require_believable(slot, int(slot.maps.max()))


def test_logits_that_the_papers_call_probabilities_are_not_believed(tmp_path: Path) -> None:
    slot = segment(write_float_model(tmp_path / "m", "NCHW", "logits", "sigmoid", 1, told="probability"), gray(32, 32))
    with pytest.raises(EngineError, match="peak logit is inf"):
        require_believable(slot, int(slot.maps.max()))


def test_papers_that_do_not_fit_the_file_are_refused(tmp_path: Path) -> None:
    folder = write_bright_model(tmp_path / "bright")
    write_papers(folder, 64, 64, output={"kind": "map_and_peak", "map": "nothing", "peak": "peak"})
    with pytest.raises(ConfigurationError, match=r"output\.map is 'nothing', the file has"):
        CpuSegmenter(ENGINE, load_model(folder))
    write_papers(folder, 64, 64, classes=["a", "b"])
    with pytest.raises(ConfigurationError, match="shape"):
        CpuSegmenter(ENGINE, load_model(folder))
    write_papers(folder, 64, 64, input={"name": "frames", "layout": "NCHW", "dtype": "float32", "rows": 64, "cols": 64})
    with pytest.raises(ConfigurationError, match=r"input\.dtype is float32, the file takes uint8"):
        CpuSegmenter(ENGINE, load_model(folder))


def test_another_file_than_the_papers_say_is_refused(tmp_path: Path) -> None:
    folder = write_bright_model(tmp_path / "bright")
    with open(folder / "model.onnx", "ab") as file:
        file.write(b"x")
    with pytest.raises(ConfigurationError, match="damaged or another model"):
        load_model(folder)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    folder = write_bright_model(tmp_path / "bright")
    (folder / "model.onnx").write_bytes(b"no network at all")
    write_papers(folder, 64, 64)
    with pytest.raises(ConfigurationError, match=r"model\.onnx cannot be used"):
        CpuSegmenter(ENGINE, load_model(folder))


ENDED_ELSEWHERE = """
import signal, sys, threading
from pathlib import Path
from edge_agent.inference.cpu import CpuSegmenter
from edge_agent.inference.model import load_model
from edge_agent.settings import CpuEngine
engine = CpuSegmenter(CpuEngine(), load_model(Path(sys.argv[1])))
def end():
    global engine
    engine.close()
    del engine
threading.Thread(target=end).start()
for thread in threading.enumerate()[1:]:
    thread.join()
signal.signal(signal.SIGHUP, lambda *_: print("heard"))
signal.raise_signal(signal.SIGHUP)
"""


def test_a_signal_is_heard_after_an_engine_was_closed_on_another_thread(tmp_path: Path) -> None:
    """As a reload closes those that no line uses any more."""
    folder = write_bright_model(tmp_path / "bright")
    done = subprocess.run([sys.executable, "-c", ENDED_ELSEWHERE, folder], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_openvino_is_loaded_without_a_word_to_anybody(tmp_path: Path) -> None:
    program = (
        "import sys; sys.addaudithook(lambda event, about: print(event, about) if event.startswith('socket.') else None); "
        "from edge_agent.inference.cpu import load_openvino; load_openvino().Core(); print('loaded')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "loaded\n"
    assert not list(tmp_path.iterdir()), "no file of an identity"


def test_a_picture_from_nowhere_is_not_kept_and_one_in_adopted_memory_is_read_where_it_lies(tmp_path: Path) -> None:
    """A master picture that is judged each minute would otherwise stay in memory each time."""
    engine = CpuSegmenter(ENGINE, load_model(write_bright_model(tmp_path / "bright")))
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    ring = np.zeros(2 * 64 * 64, np.uint8)
    engine.adopt(ring)
    here = ring[64 * 64 :].reshape(64, 64)

    def level_of(picture: np.ndarray) -> int:
        slot = engine.lease()
        assert slot is not None
        slot.tensor[:] = 7
        engine.submit(slot, picture, done.put)
        done.get(timeout=10)
        engine.release(slot)
        copied.append(slot.tensor[0, 0] != 7)
        return int(slot.maps.max())

    copied: list[bool] = []
    lives = []
    for level in (170, 180, 190):
        here[:] = level
        assert level_of(here) == pytest.approx(expected(here).max(), abs=1)
        elsewhere = gray(level=level)
        lives.append(weakref.ref(elsewhere))
        assert level_of(elsewhere) == pytest.approx(expected(elsewhere).max(), abs=1)
        del elsewhere
    gc.collect()
    assert copied == [False, True] * 3
    assert [each() for each in lives] == [None] * 3
    engine.close()


class FailsOnWhite(openvino.Op):  # type: ignore[misc]
    """Stands for any operator that fails while it computes: memory that is not there, a shape that came from the picture."""

    def __init__(self, inputs: Any = None) -> None:
        super().__init__(self)
        if inputs is not None:
            self.set_arguments(inputs)
            self.constructor_validate_and_infer_types()

    def validate_and_infer_types(self) -> None:
        self.set_output_type(0, self.get_input_element_type(0), self.get_input_partial_shape(0))

    def clone_with_new_inputs(self, inputs: Any) -> FailsOnWhite:
        return FailsOnWhite(inputs)

    def has_evaluate(self) -> bool:
        return True

    def evaluate(self, outputs: Any, inputs: Any) -> bool:
        if inputs[0].data.min() == 255:
            raise RuntimeError("no memory for this primitive")
        inputs[0].copy_to(outputs[0])
        return True


def test_an_inference_that_fails_hands_its_slot_over_with_the_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = openvino.Core.compile_model

    def with_it(core: openvino.Core, graph: openvino.Model, *words: Any) -> Any:
        frames = graph.input(FRAMES)
        readers = list(frames.get_target_inputs())
        fails = FailsOnWhite([frames])
        for reader in readers:
            reader.replace_source_output(fails.output(0))
        return own(core, graph, *words)

    monkeypatch.setattr(openvino.Core, "compile_model", with_it)
    engine = CpuSegmenter(ENGINE, load_model(write_bright_model(tmp_path / "bright")))
    done: queue.SimpleQueue[TensorSlot] = queue.SimpleQueue()
    well = gray()
    for frame in (well, np.full_like(well, 255), well, *[np.full_like(well, 255)] * 2 * engine.slots, well):
        slot = engine.lease()
        assert slot is not None
        engine.submit(slot, frame, done.put)
        assert done.get(timeout=10) is slot
        assert ("no memory for this primitive" in slot.failure) == (frame is not well)
        engine.release(slot)
    engine.close()
    assert done.empty()
