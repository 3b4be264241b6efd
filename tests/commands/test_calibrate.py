"""Calibrate as its users start it: at a desk, at the station, refused and activated."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest
from bright import gray, with_defect
from small_unet import SIZE, write_small_unet
from stations import Program, StationFolder

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def test_candidates_are_gated_activated_and_refused(station: StationFolder, edge_agent: Program, within: Program) -> None:
    station.recipe |= {"model": {"name": "unet"}}
    folder = write_small_unet(station.folder / "models" / "unet")
    config = station.write()
    frames = [with_defect(gray(SIZE, SIZE), 4, 6, 9, 5) if i % 3 == 2 else gray(SIZE, SIZE, 90 + i) for i in range(33)]
    station.add_images(frames)
    (station.images / "torn.png").write_bytes(b"no picture")
    recipe, out = station.folder / "recipes" / "part.yaml", station.folder / "out"
    common = ("calibrate", "--model", folder, "--recipe", recipe, "--images", station.images, "--config", config, "--out", out)

    made = edge_agent(*common, "--graphs-only")
    assert made.returncode == 0, made.stderr
    assert {"fp16.onnx", "int8.onnx", "int8_level0_fp16.onnx", "manifest.json"} <= {file.name for file in out.iterdir()}

    gate = (*common, "--gate-only", "--only", "fp16", "--activate", "--seconds", "0.2")
    passed = within(*gate, "--least-speedup", "0")
    assert passed.returncode == 0, passed.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["gate"]["chosen"] == "fp16"
    assert manifest["gate"]["comparisons"]["fp16"]["reference_ng"] == 11
    report = (out / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 1
    assert "0 of 33 verdicts changed" in report
    assert "The ranges were measured on 33 of the 34 golden images" in report
    assert "1 of 34 golden images cannot be judged by the recipe and count for nothing: torn.png" in passed.stderr
    choice = json.loads((station.folder / "state" / "calibrated" / "part.json").read_text())
    assert choice["onnx"] == manifest["candidates"]["fp16"]["sha256"]

    other = within(*gate[:-5], "--only", "int8", *gate[-3:], "--least-speedup", "1000")
    assert other.returncode == 1
    assert "Nothing was found out about fp16, the station's choice: it stays." in other.stderr
    assert (station.folder / "state" / "calibrated" / "part.json").exists()

    whole = (out / "manifest.json").read_text()
    for entry, damaged in (("model", {}), ("calibration", {"sha256": 1}), ("made_on", {"tools": 1.5})):
        (out / "manifest.json").write_text(json.dumps(json.loads(whole) | {entry: damaged}))
        refused = within(*gate, "--least-speedup", "0")
        assert refused.returncode == 78, entry
        assert "manifest.json is damaged" in refused.stderr
    (out / "manifest.json").write_text(whole)

    refused = within(*gate, "--least-speedup", "1000")
    assert refused.returncode == 1
    assert "withdrawn" in refused.stderr
    assert not (station.folder / "state" / "calibrated" / "part.json").exists()


def test_a_flipped_image_whose_name_is_no_utf8_is_in_the_report(station: StationFolder, within: Program) -> None:
    station.recipe |= {"model": {"name": "unet"}}
    folder = write_small_unet(station.folder / "models" / "unet")
    station.write()
    station.add_images([with_defect(gray(SIZE, SIZE), 4, 6, 9, 5), gray(SIZE, SIZE)])
    (station.images / "0000.png").rename(os.fsdecode(os.fsencode(station.images) + b"/torn\xff.png"))
    recipe, out = station.folder / "recipes" / "part.yaml", station.folder / "out"
    common = ("calibrate", "--model", folder, "--recipe", recipe, "--images", station.images, "--out", out, "--seconds", 0.05)
    refused = within(*common, "--only", "int8", "--ranges", "percentile", "--percentile", 51)
    assert refused.returncode == 1, refused.stderr
    assert "<b>torn\\xff.png</b>" in (out / "report.html").read_text()


def test_the_images_are_taken_with_a_camera_of_the_station(station: StationFolder, within: Program) -> None:
    station.recipe |= {"model": {"name": "unet"}}
    folder = write_small_unet(station.folder / "models" / "unet")
    station.add_images([gray(SIZE, SIZE, 90 + i) for i in range(6)])
    recipe, out = station.folder / "recipes" / "part.yaml", station.folder / "out"
    common = ("calibrate", "--model", folder, "--recipe", recipe, "--config", station.write(), "--out", out, "--graphs-only")

    made = within(*common, "--camera", "camera", "--count", 4, "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout) == json.loads((out / "manifest.json").read_text())
    assert len(list((out / "images").glob("*.png"))) == 4
    calibration = json.loads((out / "manifest.json").read_text())["calibration"]
    assert (calibration["images"], calibration["used"]) == (4, 4)

    again = within(*common, "--camera", "camera", "--count", 4)
    assert again.returncode == 2
    assert "holds pictures already" in again.stderr
    assert (out / "manifest.json").exists()

    more = within(*common[:-2], station.folder / "more", "--graphs-only", "--camera", "camera", "--count", 7)
    assert more.returncode == 1
    assert "the camera camera did not deliver" in more.stderr
    unknown = within(*common[:-2], station.folder / "third", "--graphs-only", "--camera", "belt", "--count", 4)
    assert unknown.returncode == 2
    assert "no camera is called belt" in unknown.stderr


def test_what_cannot_be_meant_is_a_usage_error(station: StationFolder, within: Program) -> None:
    config, model = station.write(), station.folder / "models" / "bright"
    common = ("calibrate", "--model", model, "--recipe", station.folder / "recipes" / "part.yaml", "--out", station.folder / "out")
    assert within(*common).returncode == 2
    assert within(*common, "--camera", "camera").returncode == 2
    assert within(*common, "--images", station.folder, "--activate", "--config", config, "--graphs-only").returncode == 2
    camera = ("--camera", "camera", "--config", config)
    for words, named in (
        (("--images", station.folder, "--count", 5), "--count changes something only with --camera NAME"),
        (("--images", station.folder, "--percentile", 99), "--percentile changes something only with --ranges percentile"),
        (("--images", station.folder, "--set", "engine.kind=cpu"), "--set changes something only with --config FILE"),
        (("--images", station.folder, "--graphs-only", "--only", "int8"), "--only changes something only without --graphs-only"),
        (("--images", station.folder, "--graphs-only", "--golden", station.folder), "Leave --golden out"),
        (("--images", station.folder, "--gate-only", "--most", 5), "--most changes something only without --gate-only"),
        (("--images", station.folder, "--gate-only", "--golden", station.folder), "Leave --images out"),
        ((*camera, "--gate-only", "--golden", station.folder), "Leave --camera out"),
        ((*camera, "--set", "engine={kind: recorded, path: maps}"), "engine.kind is recorded, which computes nothing"),
    ):
        refused = within(*common, *words)
        assert refused.returncode == 2, words
        assert named in refused.stderr
    assert not (station.folder / "out").exists()


def test_what_cannot_be_read_or_written_is_told_without_a_traceback(station: StationFolder, within: Program) -> None:
    station.recipe |= {"model": {"name": "unet"}}
    folder = write_small_unet(station.folder / "models" / "unet")
    station.add_images([gray(SIZE, SIZE, 90 + i) for i in range(3)])
    (station.images / "torn.png").write_bytes(b"no picture")
    station.write()
    common = ("calibrate", "--model", folder, "--recipe", station.folder / "recipes" / "part.yaml", "--graphs-only")

    made = within(*common, "--images", station.images, "--out", station.folder / "out")
    assert made.returncode == 0, made.stderr
    assert "1 of 4 images are left out of the ranges: torn.png (" in made.stderr
    assert "is not a readable image" in made.stderr

    low = station.folder / "low"
    low.mkdir()
    assert cv2.imwrite(str(low / "1.png"), gray(SIZE, SIZE, 90).astype(np.uint16) * 16)
    dark = within(*common, "--images", low, "--out", station.folder / "dark")
    assert "WARNING: the pictures have 16 bits a pixel" in dark.stderr

    (station.folder / "full").mkdir()
    (station.folder / "full" / "fp16.onnx").mkdir()  # a file of this name cannot be written
    unwritable = within(*common, "--images", station.images, "--out", station.folder / "full")
    assert unwritable.returncode == 1
    assert "fp16.onnx: Is a directory. Remedy: give the path of a file." in unwritable.stderr
    (station.folder / "bad").mkdir()
    (station.folder / "bad" / "1.png").write_bytes(b"no picture")
    left = sorted(file.name for file in (station.folder / "out").iterdir())
    unjudged = within(*common, "--images", station.folder / "bad", "--out", station.folder / "out")
    assert unjudged.returncode == 78
    assert sorted(file.name for file in (station.folder / "out").iterdir()) == left, "what was there before stays"
    mistyped = within(*common[:-1], "--gate-only", "--golden", station.folder / "nothing", "--out", station.folder / "out")
    assert mistyped.returncode == 78
    no_folder = within(*common, "--images", station.images / "torn.png", "--out", station.folder / "other")
    assert no_folder.returncode == 78
    assert "torn.png is no folder" in no_folder.stderr
    assert not (station.folder / "other").exists()

    (station.folder / "out" / "int8.onnx").unlink()
    gone = within(*common[:-1], "--gate-only", "--golden", station.images, "--out", station.folder / "out")
    assert gone.returncode == 78
    assert "int8.onnx, the candidate int8 of the manifest, is not there" in gone.stderr


def test_images_that_the_recipe_does_not_fit_are_told_with_the_reason(station: StationFolder, within: Program) -> None:
    station.recipe |= {"model": {"name": "unet"}, "regions": [{"name": "plate", "x": 10, "width": 999}]}
    folder = write_small_unet(station.folder / "models" / "unet")
    station.add_images([gray(SIZE, SIZE, 90 + i) for i in range(3)])
    station.write()
    recipe, out = station.folder / "recipes" / "part.yaml", station.folder / "out"
    common = ("calibrate", "--model", folder, "--recipe", recipe, "--images", station.images, "--out", out)
    refused = within(*common, "--graphs-only")
    assert refused.returncode == 78
    assert "none of the 3 images can be judged by the recipe" in refused.stderr
    assert f"(region plate reaches to x 1009, y {SIZE}, but the frame has {SIZE}x{SIZE} pixels" in refused.stderr
    assert not out.exists()


def test_what_could_not_be_written_in_the_end_is_refused_at_the_start(station: StationFolder, within: Program) -> None:
    station.recipe |= {"model": {"name": "unet"}}
    folder = write_small_unet(station.folder / "models" / "unet")
    station.add_images([gray(SIZE, SIZE, 90 + i) for i in range(3)])
    config, file = station.write(), station.folder / "file"
    file.write_text("")
    recipe = station.folder / "recipes" / "part.yaml"
    common = ("calibrate", "--model", folder, "--recipe", recipe, "--images", station.images, "--config", config)
    unwritable = within(*common, "--out", file / "out")
    assert unwritable.returncode == 2
    assert f"--out {file / 'out'} cannot be written: Not a directory. Remedy: a part of the path is a file" in unwritable.stderr

    (station.folder / "state").mkdir(exist_ok=True)
    (station.folder / "state" / "calibrated").write_text("")
    stateless = within(*common, "--out", station.folder / "new" / "out", "--activate")
    assert stateless.returncode == 2
    assert "--activate: the station's choice in" in stateless.stderr
    assert "cannot be written: File exists" in stateless.stderr
    assert not (station.folder / "new").exists()
