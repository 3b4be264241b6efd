"""`edge-agent replay`: one object per image, pictures under the images' names, the same answer every time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bright import gray, with_defect, write_bright_model
from stations import Program, StationFolder

from edge_agent import process
from edge_agent.commands import replay as replay_command
from edge_agent.uplink.encoding import EvidenceWorker

KEYS = {"image", "outcome", "reasons", "blobs", "findings", "latency_ms", "recipe_hash", "model_hash", "engine_id"}
BLOB = {"class", "area_px", "x", "y", "width", "height", "centroid_x", "centroid_y", "peak", "mean"}
FINDING = {"rule", "value", "limit", "margin", "ok"}
SUMMARY = {"triggers", "outcomes", "pass", "ng", "fault", "published", "acknowledged", "lost", "slips", "false_rejects"}


def results_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()]


def tried(program: Program, station: StationFolder, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    station.write()
    model, recipe = station.folder / "models" / "bright", station.folder / "recipes" / "part.yaml"
    return program("replay", "--model", model, "--recipe", recipe, "--images", station.images, "--out", out, *words)


def replay(program: Program, station: StationFolder, out: Path, *words: str) -> list[dict[str, Any]]:
    result = tried(program, station, out, *words)
    assert result.returncode == 0, result.stderr
    return results_of(out)


def test_one_object_and_one_overlay_for_every_image(edge_agent: Program, station: StationFolder, tmp_path: Path) -> None:
    station.add_images([gray(), with_defect(gray(), 10, 20, 8, 6)])
    results = replay(edge_agent, station, tmp_path / "out", "--maps")
    assert [(r["image"], r["outcome"]) for r in results] == [("0000.png", "PASS"), ("0001.png", "NG")]
    assert all(result.keys() >= KEYS for result in results)
    assert results[1]["reasons"] == ["blob_count", "peak_score"]
    (blob,) = results[1]["blobs"]
    assert blob.keys() >= BLOB
    assert (blob["class"], blob["area_px"], blob["x"], blob["y"]) == ("defect", 48, 10, 20)
    assert all(finding.keys() == FINDING and finding["ok"] for finding in results[0]["findings"])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary.keys() >= SUMMARY
    assert (summary["triggers"], summary["pass"], summary["ng"], summary["slips"]) == (2, 1, 1, None)
    assert summary["latency_ms"].keys() == {"p50", "p99"}
    marked = cv2.imread(str(tmp_path / "out" / "overlays" / "0001.png"))
    assert marked.shape[0] > 64, "no caption below the picture"
    assert marked.shape[1] >= 64
    marked = marked[:64, :64]
    assert (np.ptp(marked.astype(int), axis=2) > 60).any(), "nothing is drawn in colour"
    probability = cv2.imread(str(tmp_path / "out" / "maps" / "0001.png"), cv2.IMREAD_UNCHANGED)
    assert probability.shape == (64, 64) and probability.dtype == np.uint8
    assert (probability[20:26, 10:18] >= 128).all()
    assert (probability >= 128).sum() == 48


def test_nothing_of_an_earlier_replay_is_left(within: Program, station: StationFolder, tmp_path: Path) -> None:
    station.add_images([gray(), with_defect(gray(), 10, 20, 8, 6)])
    station.write()
    recipe, model = station.folder / "recipes" / "part.yaml", station.folder / "models" / "bright"
    words = ("replay", "--model", model, "--recipe", recipe, "--images", station.images, "--out", tmp_path / "out")
    assert within(*words, "--maps").returncode == 0
    (station.images / "0001.png").write_bytes(b"no picture any more")
    assert within(*words).returncode == 0
    assert [file.name for file in (tmp_path / "out" / "overlays").iterdir()] == ["0000.png"]
    assert not list((tmp_path / "out" / "maps").iterdir())
    refused = within(*words[:-1], station.images)
    assert refused.returncode == 2
    assert "is the folder of the images" in refused.stderr


def test_the_same_images_get_the_same_answer(
    edge_agent: Program, within: Program, station: StationFolder, images: Callable[[int], list[np.ndarray]], tmp_path: Path
) -> None:
    station.add_images(images(9))
    programs = {"first": edge_agent, "second": within}  # one in a process of its own, one in this
    first, second = (replay(program, station, tmp_path / name, "--no-overlays") for name, program in programs.items())
    for result in (*first, *second):
        del result["latency_ms"]
    assert first == second
    assert not (tmp_path / "first" / "overlays").exists()


def test_a_folder_of_defects_raises_no_alarm_of_a_line(within: Program, station: StationFolder, tmp_path: Path) -> None:
    station.add_images([with_defect(gray(), 10, 20, 8, 6)] * 3)
    station.recipe |= {"alarm_after_ng": 2}
    station.write()
    model, recipe = station.folder / "models" / "bright", station.folder / "recipes" / "part.yaml"
    result = within("replay", "--model", model, "--recipe", recipe, "--images", station.images, "--out", tmp_path / "out")
    assert [each["outcome"] for each in results_of(tmp_path / "out")] == ["NG"] * 3
    assert "ng_in_a_row" not in result.stderr


def test_a_file_that_is_no_picture_is_a_fault_and_the_rest_goes_on(within: Program, station: StationFolder, tmp_path: Path) -> None:
    station.add_images([gray(), gray(), gray()])
    (station.images / "0001.png").write_bytes(b"no picture")
    station.write()
    words = ["--model", station.folder / "models" / "bright", "--recipe", station.folder / "recipes" / "part.yaml"]
    told = within("replay", *words, "--images", station.images, "--out", tmp_path / "out").stderr
    assert "3 images: 2 PASS, 0 NG, 1 FAULT (bad_frame 1) in" in told
    assert {r["image"]: (r["outcome"], r["reasons"]) for r in results_of(tmp_path / "out")} == {
        "0000.png": ("PASS", []),
        "0001.png": ("FAULT", ["bad_frame"]),
        "0002.png": ("PASS", []),
    }


def test_a_folder_without_images_is_refused_by_name(within: Program, station: StationFolder, tmp_path: Path) -> None:
    station.images.mkdir()
    station.write()
    words = ["--model", station.folder / "models" / "bright", "--recipe", station.folder / "recipes" / "part.yaml"]
    result = within("replay", *words, "--images", station.images, "--out", tmp_path / "out")
    assert result.returncode == 78
    assert str(station.images) in result.stderr


@pytest.mark.parametrize("name", ["maps", "overlays"])
def test_images_where_it_would_clear_an_earlier_replay_are_kept(
    within: Program, station: StationFolder, tmp_path: Path, name: str
) -> None:
    station.add_images([gray()])
    station.write()
    station.images.rename(tmp_path / name)
    words = ["--model", station.folder / "models" / "bright", "--recipe", station.folder / "recipes" / "part.yaml"]
    result = within("replay", *words, "--images", tmp_path / name, "--out", tmp_path)
    assert (result.returncode, [file.name for file in (tmp_path / name).iterdir()]) == (2, ["0000.png"])
    assert "which replay clears" in result.stderr


def test_a_name_that_is_no_utf8_is_judged_and_told(edge_agent: Program, station: StationFolder, tmp_path: Path) -> None:
    station.add_images([gray()])
    (station.images / "0000.png").rename(station.images / os.fsdecode(b"\xff.png"))
    (result,) = replay(edge_agent, station, tmp_path / "out", "--maps")
    assert (result["image"], result["outcome"]) == ("\\xff.png", "PASS")
    assert all((tmp_path / "out" / folder / os.fsdecode(b"\xff.png")).is_file() for folder in ("maps", "overlays"))


def test_a_replay_that_is_stopped_says_so(
    within: Program, station: StationFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.add_images([gray(), gray()])
    station.write()
    whole = replay_command.run_folder
    monkeypatch.setattr(replay_command, "run_folder", lambda *words, begin: {**whole(*words, begin=begin), "outcomes": 1})
    words = ["--model", station.folder / "models" / "bright", "--recipe", station.folder / "recipes" / "part.yaml"]
    stopped = within("replay", *words, "--images", station.images, "--out", tmp_path / "out")
    assert stopped.returncode == 1
    assert "only 1 of 2 images were judged" in stopped.stderr


def test_every_image_has_pictures_of_its_own(within: Program, station: StationFolder, tmp_path: Path) -> None:
    station.add_images([gray()])
    for name in ("0000.pgm", "0000.png.bmp", "0000.png.bmp.tif", "lone.bmp"):
        (station.images / name).write_bytes((station.images / "0000.png").read_bytes())
    results = replay(within, station, tmp_path / "out", "--maps")
    assert len(results) == 5
    for pictures in ("overlays", "maps"):
        names = sorted(file.name for file in (tmp_path / "out" / pictures).iterdir())
        assert names == ["0000.pgm.png", "0000.png.bmp.png", "0000.png.bmp.tif.png", "0000.png.png", "lone.png"]


def test_a_recipe_may_be_a_link(within: Program, station: StationFolder, tmp_path: Path) -> None:
    station.add_images([gray()])
    station.write()
    recipe = station.folder / "recipes" / "part.yaml"
    versions = tmp_path / "versions"
    versions.mkdir()
    recipe.rename(versions / "v3.yaml")
    recipe.symlink_to(versions / "v3.yaml")
    words = ("replay", "--model", station.folder / "models" / "bright", "--images", station.images, "--out", tmp_path / "out")
    told = within(*words, "--recipe", recipe)
    assert told.returncode == 0, told.stderr
    assert len(results_of(tmp_path / "out")) == 1


@pytest.mark.parametrize("name", ["part.yml", "my part.yaml"])
def test_a_recipe_that_no_station_would_find_removes_nothing(
    within: Program, station: StationFolder, tmp_path: Path, name: str
) -> None:
    station.add_images([gray()])
    before = replay(within, station, tmp_path / "out")
    recipe = station.folder / "recipes" / "part.yaml"
    model = station.folder / "models" / "bright"
    words = ("replay", "--model", model, "--images", station.images, "--out", tmp_path / "out")
    told = within(*words, "--recipe", recipe.rename(recipe.with_name(name)))
    assert told.returncode == 78
    assert "Remedy: call the file part.yaml." in told.stderr
    assert results_of(tmp_path / "out") == before


def test_pictures_of_a_replay_are_kept_for_no_datacenter(
    within: Program, station: StationFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: list[str] = []
    monkeypatch.setattr(EvidenceWorker, "offer", lambda _self, note, _pixels: offered.append(note.kind) is None)
    station.add_images([with_defect(gray(), 10, 20, 8, 6)])
    assert tried(within, station, tmp_path / "out").returncode == 0
    assert [part["outcome"] for part in results_of(tmp_path / "out")] == ["NG"]
    assert offered == []


def test_a_picture_that_cannot_be_written_is_told_and_the_rest_is_there(
    within: Program, station: StationFolder, tmp_path: Path
) -> None:
    station.add_images([gray(), gray(), gray()])
    for each in ("n" * 250 + ".pgm", "n" * 250 + ".bmp"):  # their pictures bear the whole name, which is too long then
        (station.images / each).write_bytes((station.images / "0000.png").read_bytes())
    told = tried(within, station, tmp_path / "out")
    assert told.returncode == 1
    assert "cannot be written: File name too long (and 1 more). Make room" in told.stderr
    assert "Traceback" not in told.stderr
    assert len(results_of(tmp_path / "out")) == 5


def test_results_are_utf8_in_any_locale(
    edge_agent: Program, station: StationFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    station.add_images([gray()])
    (station.images / "0000.png").rename(station.images / "größe.png")
    (result,) = replay(edge_agent, station, tmp_path / "out")
    assert result["image"] == "größe.png"


def test_after_a_folder_the_signals_are_the_commands_own_again() -> None:
    numbers, stopped = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP), threading.Event()
    before = [signal.getsignal(number) for number in numbers]
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with process.lent_signals(stopped.set):
            process.listen(threading.Event())
            signal.raise_signal(signal.SIGHUP)
        assert stopped.is_set()
        assert [signal.getsignal(number) for number in numbers] == [*before[:2], signal.SIG_DFL]
    finally:
        signal.signal(signal.SIGHUP, before[2])


def test_a_model_that_gives_nan_removes_nothing(within: Program, station: StationFolder, tmp_path: Path) -> None:
    station.add_images([gray()])
    before = replay(within, station, tmp_path / "out")
    model, recipe = station.folder / "damaged" / "bright", station.folder / "recipes" / "part.yaml"
    write_bright_model(model, nan=True)
    told = within("replay", "--model", model, "--recipe", recipe, "--images", station.images, "--out", tmp_path / "out")
    assert (told.returncode, "NaN" in told.stderr) == (78, True), told.stderr
    assert results_of(tmp_path / "out") == before


def test_results_on_a_full_disk_name_their_file_and_what_to_do(
    within: Program, station: StationFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_room(out: Path) -> None:
        out.mkdir(exist_ok=True)
        (out / "results.jsonl").symlink_to("/dev/full")

    monkeypatch.setattr(replay_command, "make_room", make_room)
    station.add_images([gray()] * 40)
    told = tried(within, station, tmp_path / "out")
    assert told.returncode == 1
    assert "results.jsonl cannot be written: No space left on device. Remedy: free space there" in told.stderr
    assert "Traceback" not in told.stderr
