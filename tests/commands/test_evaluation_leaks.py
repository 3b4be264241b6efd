"""Which images a model was trained on, by its papers: the shipped ones, folders named and cut otherwise, and content."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from stations import ROOT

from edge_agent.commands.evaluation.papers import Papers, read_papers
from edge_agent.commands.evaluation.split import choose, note_of, warning_of
from edge_agent.dataset import Dataset, read_dataset
from edge_agent.errors import UsageError
from edge_agent.inference.model import load_model

NO_CHOICE = argparse.Namespace(groups=None, exclude_groups=None, groups_file=None, held_out=True)


DATA = ROOT.parent / "shared" / "data"


def papers_of(model: str) -> Papers:
    """The shipped model's, with the names that it was trained on and not the content."""
    return replace(read_papers(load_model(ROOT / "models" / model).papers), hashes=None)


def dagm(folder: Path, *names: str) -> Path:
    """A class in DAGM's layout, of good images whose content is their path."""
    (folder / "Train" / "Label").mkdir(parents=True)
    for name in names:
        (folder / "Train" / name).write_text(f"{folder.name} {name}")
    rows = [f"{number}\t0\t{name}\t0\t0\t" for number, name in enumerate(names, 1)]
    (folder / "Train" / "Label" / "Labels.txt").write_text("\n".join(["1", *rows]))
    return folder


def index(folder: Path, *groups: object) -> Dataset:
    (folder / "images").mkdir(parents=True)
    for group in groups:
        (folder / "images" / f"{group}.png").write_text(f"{folder} {group}")
    (folder / "index.csv").write_text("\n".join(["image,class,group", *(f"{each}.png,good,{each}" for each in groups)]))
    return read_dataset(folder)


def is_warned(dataset: Dataset, papers: Papers) -> bool:
    return "TRAINED" in warning_of(dataset, papers)


@pytest.mark.parametrize("at", ["dagm/Class1/Train", "dagm/Class1", "dagm"])
def test_the_shipped_dagm_models_images_are_known_from_every_folder_they_can_be_judged_by(tmp_path: Path, at: str) -> None:
    dagm(tmp_path / "dagm" / "Class1", "0002.PNG", "0004.PNG", "9999.PNG")
    said = warning_of(read_dataset(tmp_path / at), papers_of("dagm-class1"))
    assert "was TRAINED on 2 of these 3 images" in said
    assert "--held-out" not in said, "it holds nothing out"


def test_a_copy_by_another_name_is_told_softly(tmp_path: Path) -> None:
    copy, papers = read_dataset(dagm(tmp_path / "mine", "0002.PNG")), papers_of("dagm-class1")
    assert not is_warned(copy, papers)
    assert "Class1" in note_of(copy, papers, by_held_out=False)
    (tmp_path / "mine" / "Train").rename(tmp_path / "mine" / "Test")
    assert note_of(read_dataset(tmp_path / "mine"), papers, by_held_out=False) == "", "the other half of that name"
    (tmp_path / "mine" / "Test").rename(tmp_path / "alone")
    assert "1 groups (0002.PNG)" in note_of(read_dataset(tmp_path / "alone"), papers, by_held_out=False)


def test_numbers_of_parts_that_other_data_uses_too_are_no_alarm(tmp_path: Path) -> None:
    mine, papers = index(tmp_path / "mine", 1, 2, 4), papers_of("magnetic-tile")
    assert not is_warned(mine, papers)
    assert "3 groups (1, 2, 4)" in note_of(mine, papers, by_held_out=False)
    tiles = index(tmp_path / "magnetic_tile", 1, 2, 4)
    assert "was TRAINED on 3 of these 3 images" in warning_of(tiles, papers)
    assert note_of(tiles, papers, by_held_out=False) == ""


def test_other_images_of_the_same_sort_are_neither_warned_of_nor_noted(tmp_path: Path) -> None:
    mine = index(tmp_path / "mine", "a", "b")
    assert warning_of(mine, papers_of("magnetic-tile")) == note_of(mine, papers_of("magnetic-tile"), by_held_out=False) == ""
    fresh = read_dataset(dagm(tmp_path / "Class1", "8888.PNG"))
    assert warning_of(fresh, papers_of("dagm-class1")) == note_of(fresh, papers_of("dagm-class1"), by_held_out=False) == ""


def test_content_tells_whatever_the_names(tmp_path: Path) -> None:
    mine = index(tmp_path / "mine", 1, 2)
    known = hashlib.sha256(mine.images[1].image.read_bytes()).hexdigest()[:12]
    papers = Papers("parts", frozenset(), frozenset({"1"}), frozenset({known}))
    assert "was TRAINED on 1 of these 2 images (1 group: 2), known by their content" in warning_of(mine, papers)
    assert "1 groups (1)" in note_of(mine, papers, by_held_out=False), "called alike, and another picture"


def test_nothing_held_out_and_nothing_to_compare_with_is_warned_of(tmp_path: Path) -> None:
    tiles = papers_of("magnetic-tile")  # which names parts by number
    for inner in ("good", "bad"):
        (tmp_path / "mine" / inner).mkdir(parents=True)
        (tmp_path / "mine" / inner / f"MT_{inner}.jpg").write_text(inner)
    alone = read_dataset(tmp_path / "mine")
    assert "may be what it was TRAINED on" in warning_of(alone, tiles)
    assert is_warned(alone, Papers("parts", frozenset(), None, None))
    assert not is_warned(alone, Papers("parts", None, None, None)), "papers that say nothing, of other data"


def test_held_out_images_are_found_from_another_folder(tmp_path: Path) -> None:
    dagm(tmp_path / "dagm" / "Class1", "1.PNG", "2.PNG")
    papers = Papers("Class1", frozenset({"Train/1.PNG"}), None, None)
    data = read_dataset(tmp_path / "dagm" / "Class1" / "Train")
    assert [each.name for each in choose(data, papers, NO_CHOICE)[0].images] == ["1.PNG"]
    assert "may have been TRAINED on 1 of these 2 images" in warning_of(data, papers)
    (tmp_path / "dagm" / "Class1").rename(tmp_path / "mine")
    copy = read_dataset(tmp_path / "mine")
    assert [each.name for each in choose(copy, papers, NO_CHOICE)[0].images] == ["Train/1.PNG"]
    assert "not known to be that data" in note_of(copy, papers, by_held_out=True)


def test_nothing_held_out_has_a_message_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"trained on every image of magnetic_tile.*images it has not seen"):
        choose(index(tmp_path / "magnetic_tile", 1), papers_of("magnetic-tile"), NO_CHOICE)
    with pytest.raises(UsageError, match="none of the 1 groups that the model's papers hold out of Class1"):
        choose(index(tmp_path / "mine", 1), Papers("Class1", frozenset({"Train/1.PNG"}), None, None), NO_CHOICE)


def test_drawn_parts_in_dagms_layout_are_not_dagms(tmp_path: Path) -> None:
    drawn, papers = (
        read_dataset(dagm(tmp_path / "Class1", "0002.PNG")),
        read_papers(load_model(ROOT / "models" / "dagm-class1").papers),
    )
    assert not is_warned(drawn, papers)
    assert "Class1" in note_of(drawn, papers, by_held_out=False)


@pytest.mark.skipif(not DATA.exists(), reason="the folder shared/data is not beside the project")
@pytest.mark.parametrize(
    ("model", "folder", "images"),
    [("dagm-class1", "dagm", 288), ("dagm-class1", "dagm/Class1/Train", 288), ("magnetic-tile", "magnetic_tile", 695)],
)
def test_the_shipped_papers_know_every_image_by_its_content(tmp_path: Path, model: str, folder: str, images: int) -> None:
    copy = tmp_path / "copy"
    copy.symlink_to(DATA / folder)
    said = warning_of(read_dataset(copy), read_papers(load_model(ROOT / "models" / model).papers))
    assert f"was TRAINED on {images} of these {images} images" in said
    assert "README.md" in said, "where the honest figures are"
