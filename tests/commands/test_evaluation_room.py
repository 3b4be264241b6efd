"""What lies where a report is to go: an earlier evaluation's files make room, everybody else's stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.commands.evaluation.room import RESULT, make_room, written_files
from edge_agent.errors import UsageError


class Place:
    """A dataset, a recipe and a folder for reports."""

    def __init__(self, folder: Path) -> None:
        self.out, self.data, self.recipe = folder / "out", folder / "data", folder / "recipes" / "part.yaml"
        for each in (self.data, self.recipe.parent):
            each.mkdir()
        self.recipe.write_text("the recipe")

    def make_room(self, picks: bool = False) -> None:
        make_room(self.out, self.data, self.recipe, picks)

    def evaluated(self, picks: bool = False) -> None:
        """Leave what an evaluation leaves."""
        self.make_room(picks)
        for name in ("report.md", "worst.png", *(["part.yaml"] if picks else [])):
            (self.out / name).write_text(f"evaluate's {name}")
        files = written_files(self.out, {"file": "part.yaml"} if picks else None)
        (self.out / RESULT).write_text(json.dumps({"as_it_stands": {}, "files": files}))

    def names(self) -> set[str]:
        return {file.name for file in self.out.iterdir()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_earlier_evaluation_makes_room_with_the_recipe_it_picked(place: Place) -> None:
    place.evaluated(picks=True)
    (place.out / "remarks.txt").write_text("mine")
    place.make_room()
    assert place.names() == {"remarks.txt"}


@pytest.mark.parametrize("picks", [False, True])
def test_a_recipe_of_the_same_name_that_it_did_not_write_stays(place: Place, picks: bool) -> None:
    place.evaluated()
    (place.out / "part.yaml").write_text("mine")
    if picks:
        with pytest.raises(UsageError, match=r"part\.yaml"):
            place.make_room(picks)
        assert place.names() == {"part.yaml", "report.md", "worst.png", RESULT}, "refused before anything was removed"
    else:
        place.make_room(picks)
        assert place.names() == {"part.yaml"}
    assert (place.out / "part.yaml").read_text() == "mine"


def test_a_picked_recipe_that_was_changed_since_stays(place: Place) -> None:
    place.evaluated(picks=True)
    (place.out / "part.yaml").write_text("evaluate's part.yaml, mended")
    place.make_room()
    assert place.names() == {"part.yaml"}


@pytest.mark.parametrize("name", ["report.md", "results.jsonl", "worst.png", RESULT])
def test_what_somebody_else_put_there_is_in_the_way(place: Place, name: str) -> None:
    place.out.mkdir()
    (place.out / name).write_text("{}")
    with pytest.raises(UsageError, match=rf"holds {name}, which evaluate would write but did not write.*name another folder"):
        place.make_room()
    assert place.names() == {name}


def test_a_list_of_files_cannot_make_it_reach_elsewhere(place: Place) -> None:
    place.out.mkdir()
    (place.out / RESULT).write_text(json.dumps({"as_it_stands": {}, "files": {"../recipes/part.yaml": ""}}))
    place.make_room()
    assert place.recipe.exists()


def test_the_picture_of_a_folder_is_no_folder(place: Place) -> None:
    place.out.write_text("a file")
    with pytest.raises(UsageError, match="cannot be used as a folder"):
        place.make_room()
