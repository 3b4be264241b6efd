"""While an engine is missing, somebody edits the recipe: the daemon stays up, as after a reload that is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import pytest
import yaml
from bright import gray, with_defect
from fake_gpu import built, install
from stations import StationFolder

from edge_agent import swapping
from edge_agent.daemon import Daemon
from edge_agent.settings import load_station

pytest.importorskip("openvino")


class Waiting:
    """A daemon under way whose GPU is missing."""

    def __init__(self, station: StationFolder) -> None:
        self.station = station
        self.daemon = Daemon(load_station(station.write()))
        self.line = self.daemon.lines[0]

    def __enter__(self) -> Waiting:
        self.daemon.start()
        self.until(lambda: "pycuda" in self.line.book.why_not_ready or "TensorRT" in self.line.book.why_not_ready)
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.close()

    def until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 20
        while not condition():
            assert self.daemon._failure is None, "the daemon would end"
            assert time.monotonic() < until, (self.line.book.ready, self.line.book.why_not_ready)
            threading.Event().wait(0.005)

    def look_again(self, times: int = 2) -> None:
        """Until the engine was looked for so often from here on."""
        known = []
        for _ in range(times):
            known.append(self.line.bundle)  # kept: a new one is at another address
            self.until(lambda: self.line.bundle is not known[-1])

    def edit(self, **changed: Any) -> None:
        (self.station.folder / "recipes" / "part.yaml").write_text(yaml.safe_dump({**self.station.recipe, **changed}))


@pytest.fixture
def waiting(station: StationFolder, monkeypatch: pytest.MonkeyPatch, no_gpu: None) -> Iterator[Waiting]:
    monkeypatch.setattr(swapping, "_ENGINE_AGAIN_S", (0.05,))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # the daemon sets its own
    station.settings["engine"] = {"kind": "tensorrt", "slots": 2, "keep_warm_ms": 0}
    station.settings["cameras"] = [{"name": "camera", "kind": "synthetic", "rows": 64, "cols": 64, "trigger": "software"}]
    station.recipe["golden"] = {"good": ["good.png"], "bad": ["bad.png"]}
    station.write()
    for name, picture in (("good", gray()), ("bad", with_defect(gray(), 10, 20, 8, 6))):
        cv2.imwrite(str(station.folder / "recipes" / f"{name}.png"), picture)
    with Waiting(station) as daemon:
        yield daemon


def test_a_recipe_that_is_made_unusable_meanwhile_leaves_the_one_before(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    was = waiting.line.bundle.identity.recipe_hash
    waiting.edit(deadline_ms="soon")
    waiting.look_again(3)
    assert not waiting.line.book.ready
    install(monkeypatch)
    built(monkeypatch)
    waiting.until(lambda: waiting.line.book.ready)
    assert waiting.line.bundle.identity.recipe_hash == was
    assert "Fake T4" in waiting.line.bundle.identity.engine_id
    said = "".join(capfd.readouterr())
    assert said.count("line.recipe_refused") == 1
    assert "deadline_ms" in said


def test_a_recipe_that_is_mended_meanwhile_is_the_one_that_counts(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    was = waiting.line.bundle.identity.recipe_hash
    waiting.edit(deadline_ms="soon")
    waiting.look_again()
    waiting.edit(deadline_ms=4000)
    install(monkeypatch)
    built(monkeypatch)
    waiting.until(lambda: waiting.line.book.ready)
    assert waiting.line.bundle.identity.recipe_hash != was
    assert waiting.line.bundle.identity.deadline_ms == 4000


def test_where_the_one_before_cannot_be_used_either_the_line_says_why_until_the_file_is_right(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    good = waiting.station.folder / "recipes" / "good.png"
    picture = good.read_bytes()
    good.unlink()
    install(monkeypatch)
    built(monkeypatch)
    waiting.until(lambda: "good.png" in waiting.line.book.why_not_ready)
    assert not waiting.line.book.ready
    waiting.look_again(3)
    good.write_bytes(picture)
    waiting.until(lambda: waiting.line.book.ready)
    said = "".join(capfd.readouterr())
    assert said.count("line.recipe_refused") == 1
    assert "engine.unavailable" not in said, "nothing new about the engine"
