"""The process that builds: whatever becomes of it, what is told is what happened."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

import pytest
from fake_tensorrt import plan_of
from stations import an_ordinary_user, open_folder

from edge_agent.errors import EngineUnavailable
from edge_agent.inference.tensorrt import build
from edge_agent.inference.tensorrt.build import build_aside
from edge_agent.inference.tensorrt.network import Network

MORE_THAN_A_PIPE_HOLDS = ("8.9",) * 40_000


def built_by(way: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capabilities: tuple[str, ...] = ()) -> bytes:
    monkeypatch.setattr(build, "_CHILD", "bad_builder")
    monkeypatch.setenv("BAD_BUILDER", way)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]))
    timing = folder / "engines" / "timing.cache"
    return build_aside(Network(b"", ""), timing, "tensorrt", 256, 3, lambda _: None, capabilities=capabilities)


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("killed", "by signal 9 .* lower engine.workspace_mb"),
        ("crashed", "by signal 6 .*assertion in a library"),
        ("garbage", "by exit code 4 .*it said nothing"),
        ("deaf", "by exit code 3 .*it said nothing"),
        ("full", "engines cannot hold an engine: No space left on device. Free space there"),
    ],
)
def test_a_builder_that_dies_is_told_of_and_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, why: str
) -> None:
    with pytest.raises(EngineUnavailable, match=why):
        built_by(way, tmp_path, monkeypatch, MORE_THAN_A_PIPE_HOLDS if way == "deaf" else ())
    assert list((tmp_path / "engines").iterdir()) == []


def test_what_killed_builds_left_is_deleted_and_a_build_under_way_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = tmp_path / "engines"
    for name in ("left", "held", "new"):
        (engines / f".build-{name}").mkdir(parents=True)
        (engines / f".build-{name}" / "network.onnx").write_bytes(b"large")
    for name in ("left", "held"):
        os.utime(engines / f".build-{name}", (0, 0))
    for name in (".new-left", ".new-new"):
        (engines / name).write_bytes(b"half an engine")
    os.utime(engines / ".new-left", (0, 0))
    held = os.open(engines / ".build-held", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    built_by("prints", tmp_path, monkeypatch)
    assert {file.name for file in engines.iterdir()} == {".build-held", ".build-new", ".new-new"}
    os.close(held)


def test_what_a_library_prints_is_not_taken_for_the_builders_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert built_by("prints", tmp_path, monkeypatch) == plan_of(1, 64, 64)


def test_a_folder_of_another_user_is_told_with_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder()
    try:
        (folder / "engines").mkdir(mode=0o755)
        if os.geteuid():
            (folder / "engines").chmod(0o555)
        with an_ordinary_user(), pytest.raises(EngineUnavailable) as refused:
            built_by("prints", folder, monkeypatch)
    finally:
        (folder / "engines").rmdir()
        folder.rmdir()
    assert str(refused.value).startswith(f"{folder / 'engines'} cannot hold an engine: Permission denied. ")
    assert "belongs to" in str(refused.value)
    assert "chown -R" in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look over that wall")
def test_a_folder_that_may_not_even_be_looked_into_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder()
    try:
        folder.chmod(0o700)
        with an_ordinary_user(), pytest.raises(EngineUnavailable, match=f"{folder} belongs to root"):
            built_by("prints", folder, monkeypatch)
    finally:
        folder.rmdir()
