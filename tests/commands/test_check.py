"""`edge-agent check` tells every problem at once, with its line and its remedy, and says by its exit code what they mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stations import ROOT, Program, StationFolder

from edge_agent.camera_settings import AravisCamera, V4l2Camera
from edge_agent.commands.doctor.sight import require_sight
from edge_agent.errors import ConfigurationError
from edge_agent.fit import load_pair
from edge_agent.inference.model import load_model


@pytest.mark.parametrize("kind", [partial(AravisCamera, address="10.0.0.2"), partial(V4l2Camera, by_id="usb-cam")])
def test_the_size_that_a_camera_is_set_to_is_held_against_the_recipe(station: StationFolder, kind: Callable[..., Any]) -> None:
    station.recipe["regions"] = [{"name": "right", "x": 64, "width": 64, "prepare": "resize"}]
    file = station.write().parent / "recipes" / "part.yaml"
    model, recipe = load_pair(station.folder / "models" / "bright", file)

    def look(**size: int) -> None:
        require_sight(kind(name="cam", **size), station.folder, recipe, model, file)

    look()
    look(height=64)
    look(width=128, height=64)
    with pytest.raises(ConfigurationError, match="a picture of camera cam: region right reaches to x 128") as refused:
        look(width=120, height=64)
    assert refused.value.exit_code == 78


def test_what_we_ship_has_no_problem(edge_agent: Program) -> None:
    models = [word for folder in sorted((ROOT / "models").iterdir()) for word in ("--model", folder)]
    recipes = [word for file in sorted((ROOT / "config" / "recipes").glob("*.yaml")) for word in ("--recipe", file)]
    result = edge_agent("check", "--config", ROOT / "config" / "demo.yaml", *models, *recipes)
    assert result.returncode == 0, result.stdout
    assert "no problem found" in result.stdout


def test_every_problem_is_told_with_its_line_and_remedy(within: Program, station: StationFolder) -> None:
    file = station.write()
    text = file.read_text()
    file.write_text(text + "speed: 9\nstation: twice\n")
    (station.folder / "recipes" / "part.yaml").write_text(
        "name: part\nmodel: {name: bright}\ndeadline_ms: -5\nregions: [{name: whole, prepare: squeeze}]\nrulez: []\n"
    )
    result = within("check", "--config", file, "--recipe", station.folder / "recipes" / "part.yaml", "--json")
    assert result.returncode == 78
    told = json.loads(result.stdout)
    assert not told["ok"]
    by_key = {problem["key"]: problem for problem in told["problems"]}
    assert {"speed", "station", "deadline_ms", "regions.0.prepare", "rulez"} <= by_key.keys()
    assert by_key["deadline_ms"]["line"] == 3
    assert by_key["speed"]["line"] == text.count("\n") + 1
    assert all(problem["remedy"] for problem in told["problems"]), told
    plain = within("check", "--config", file)
    assert plain.returncode == 78
    assert f"{file}:{by_key['speed']['line']}: speed:" in plain.stdout
    assert "Remedy:" in plain.stdout


def test_a_recipe_that_does_not_fit_its_model_is_a_problem(within: Program, station: StationFolder) -> None:
    station.recipe["classes"] = {"scratch": {"threshold": 0.5}}
    result = within("check", "--config", station.write())
    assert result.returncode == 78
    assert "'scratch'" in result.stdout
    assert "defect" in result.stdout
    alone = within("check", "--recipe", station.folder / "recipes" / "part.yaml", "--model", station.folder / "models" / "bright")
    assert alone.returncode == 78
    assert "'scratch'" in alone.stdout


def test_all_that_does_not_fit_is_told_at_once_each_with_its_line(within: Program, station: StationFolder) -> None:
    station.write()
    file, model = station.folder / "recipes" / "part.yaml", station.folder / "models" / "bright"
    found = load_model(model).hash
    other = found[:12] + "0" * 52
    file.write_text(
        f"name: cap\nmodel:\n  name: bright\n  hash: {other}\nclasses: {{scratch: {{}}}}\nrules:\n"
        "  - {rule: blob_count, max: 0}\n  - {rule: peak_score, max: 0.5, class: scratch}\n"
    )
    result = within("check", "--recipe", file, "--model", model, "--json")
    problems = json.loads(result.stdout)["problems"]
    assert [(each["line"], each["key"]) for each in problems] == [
        (1, "name"),
        (4, "model.hash"),
        (5, "classes.scratch"),
        (8, "rules.1.class"),
    ]
    assert other in problems[1]["message"] and found in problems[1]["message"]


def test_golden_pictures_of_a_recipe_alone_are_looked_for(within: Program, station: StationFolder) -> None:
    station.recipe["golden"] = {"good": ["good.png"], "bad": ["bad.png"]}
    station.write()
    result = within("check", "--recipe", station.folder / "recipes" / "part.yaml", "--model", station.folder / "models" / "bright")
    assert result.returncode == 78
    assert all(f"names {station.folder / 'recipes' / name}" in result.stdout for name in ("good.png", "bad.png"))


@pytest.mark.parametrize("view", ["", "side"])
def test_reasons_of_a_master_part_are_those_of_the_lines_rules(within: Program, station: StationFolder, view: str) -> None:
    zone = {
        "rule": "zone",
        "name": "seal",
        "polygon": [[0, 0], [9, 0], [9, 9]],
        "max_count": 0,
        "max_area_px": 4,
        "class": "defect",
    }
    station.recipe["rules"] = [zone, {"rule": "blob_count", "max": 0}]
    station.images.mkdir()
    line = station.settings["lines"][0]
    if view:
        line["views"] = [{"name": view, "camera": line.pop("camera"), "recipe": line.pop("recipe")}]
    names = [f"{view}/{name}" if view else name for name in ("zone/seal/count/defect", "zone/seal/area/defect", "blob_count")]
    for reasons, refused in ((names, []), ([*names, "zone"], ["zone"])):
        line["challenge"] = {"parts": [{"name": "scratched", "expect": "NG", "reasons": reasons}]}
        told = json.loads(within("check", "--files", "--json", "--config", station.write()).stdout)["problems"]
        told = [problem for problem in told if problem["key"] == "lines.0.challenge.parts.0.reasons"]
        assert [problem["message"].split(",")[0] for problem in told] == [f"has {name!r}" for name in refused]
        assert all(", ".join(names) in problem["remedy"] for problem in told)


def test_a_name_that_no_file_has_is_told_with_those_that_are_there(
    within: Program, station: StationFolder, images: Callable[[int], list[np.ndarray]]
) -> None:
    station.add_images(images(1))
    station.recipe["model"] = {"name": "brihgt"}
    station.settings["lines"][0]["recipe"] = "prt"
    file = station.write()
    (problem,) = json.loads(within("check", "--json", "--config", file).stdout)["problems"]
    assert (problem["key"], problem["file"]) == ("lines.0.recipe", str(file)) and problem["line"]
    assert "prt.yaml" in problem["message"] and "has no prt.yaml, but part.yaml" in problem["remedy"]
    alone = within("check", "--config", file, "--set", "lines.0.recipe=part")
    assert alone.returncode == 78
    assert "brihgt/model.yaml: the file does not exist" in alone.stdout and "has no brihgt, but bright" in alone.stdout


@pytest.mark.parametrize(
    ("recipe", "said", "remedy"),
    [
        (
            {"rules": [{"rule": "zone", "name": "far", "polygon": [[900, 0], [999, 0], [999, 9]], "max_count": 0}]},
            "zone far lies in no region of a frame of 64x64 pixels, or exclusions cover all of it there.",
            "mend its polygon, the regions or the exclusions.",
        ),
        (
            {
                "rules": [{"rule": "zone", "name": "hidden", "polygon": [[10, 10], [20, 10], [20, 20]], "max_count": 0}],
                "exclusions": [{"name": "stamp", "polygon": [[5, 5], [30, 5], [30, 30], [5, 30]]}],
            },
            "zone hidden lies in no region of a frame of 64x64 pixels, or exclusions cover all of it there.",
            "mend its polygon, the regions or the exclusions.",
        ),
        ({"regions": [{"name": "left", "x": 60, "width": 9}]}, "region left reaches to x 69, y 64", "mend the recipe's region"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "synthetic"])
def test_a_recipe_that_does_not_fit_the_pictures_is_a_problem(
    within: Program,
    station: StationFolder,
    images: Callable[[int], list[np.ndarray]],
    kind: str,
    recipe: dict[str, Any],
    said: str,
    remedy: str,
) -> None:
    station.add_images(images(1))
    if kind == "synthetic":
        station.settings["cameras"] = [{"name": "camera", "kind": kind, "rows": 64, "cols": 64}]
    assert not json.loads(within("check", "--json", "--config", station.write()).stdout)["problems"]
    station.recipe |= recipe
    (problem,) = json.loads(within("check", "--json", "--config", station.write()).stdout)["problems"]
    assert problem["file"].endswith("part.yaml") and "of camera camera" in problem["message"]
    assert said in problem["message"] and remedy in problem["remedy"]


def test_the_daemon_itself_refuses_the_same_with_78(within: Program, station: StationFolder, tmp_path: Path) -> None:
    station.settings["plc"]["verdicts"] = "tcp://0.0.0.0:5556"
    result = within("run", "--config", station.write(), "--parts", 1)
    assert result.returncode == 78
    assert "allow_plaintext" in result.stderr
    assert not (tmp_path / "state").exists()


def test_a_core_that_is_not_there_is_a_problem_of_this_machine(within: Program, station: StationFolder) -> None:
    station.settings["cameras"] = [{"name": "camera", "kind": "synthetic", "rows": 64, "cols": 64}]
    station.settings["python_core"] = 4095
    file = station.write()
    result = within("check", "--config", file, "--json")
    (problem,) = json.loads(result.stdout)["problems"]
    assert (result.returncode, problem["key"], bool(problem["remedy"])) == (78, "python_core", True)
    assert within("check", "--config", file, "--files").returncode == 0
    assert within("run", "--config", file, "--parts", 1).returncode == 78


def test_files_alone_need_a_file(within: Program) -> None:
    assert within("check", "--files").returncode == 2
