"""The dataset reader: DAGM's labels in every dialect, index.csv, good and bad; everything malformed is told once, with its line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from stations import ROOT, an_ordinary_user, open_folder

from edge_agent.dataset import Dataset, load, read_dataset
from edge_agent.errors import ConfigurationError

DATA = ROOT.parent / "shared" / "data"
CLEAN, BAD = "0001\t0\t0001.PNG\t0\t0", "0002\t1\t0002.PNG\t0\t0002_label.PNG"


def picture(file: Path, level: int = 100, rows: int = 6, cols: int = 8) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.full((rows, cols), level, np.uint8))
    return file


def dagm(folder: Path, text: str) -> Path:
    """Two images, the second defective, with these labels."""
    picture(folder / "0001.PNG")
    picture(folder / "0002.PNG")
    picture(folder / "Label" / "0002_label.PNG", 255)
    (folder / "Thumbs.db").write_bytes(b"no picture")
    (folder / "Label" / "Labels.txt").write_bytes(text.encode())
    return folder


def indexed(folder: Path, *lines: str, header: str = "image,mask,class,group") -> Path:
    for name in ("a.jpg", "b.jpg"):
        picture(folder / "images" / name)
    picture(folder / "masks" / "a.png", 255)
    picture(folder / "masks" / "b.png", 0)
    (folder / "index.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


def told(folder: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        read_dataset(folder)
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("tail", ["", "\t"])
def test_both_dialects_of_dagm_say_the_same(tmp_path: Path, end: str, tail: str) -> None:
    dataset = read_dataset(dagm(tmp_path / "Class3" / "Train", f"1{end}{CLEAN}{tail}{end}{BAD}{end}"))
    assert [(each.name, each.kind, each.is_defective) for each in dataset.images] == [
        ("0001.PNG", "good", False),
        ("0002.PNG", "Class3", True),
    ]
    clean, bad = (load(each) for each in dataset.images)
    assert clean.mask is not None and not clean.mask.any()
    assert bad.mask is not None and bad.mask.all()
    assert bad.frame.shape == bad.mask.shape == (6, 8) and bad.frame.dtype == np.uint8
    assert dataset.layout == "DAGM" and dataset.unlisted == 0


def test_a_class_holds_train_and_test_and_a_folder_holds_classes(tmp_path: Path) -> None:
    for name in ("Class1", "grain"):
        for half in ("Train", "Test"):
            dagm(tmp_path / name / half, f"1\n{CLEAN}\n{BAD}\n")
    one, several = read_dataset(tmp_path / "Class1"), read_dataset(tmp_path)
    assert [each.name for each in one.images if each.is_defective] == ["Train/0002.PNG", "Test/0002.PNG"]
    assert one.kinds == ("Class1", "good")
    assert several.kinds == ("Class1", "grain", "good")
    assert len(several.images) == len(several.groups) == 8


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("", 1, "empty"),
        (f"2\n{CLEAN}\n", 1, "'2', not 1"),
        (f"1\n{CLEAN.replace(chr(9), ' ')}\n", 2, "with tabs between"),
        ("1\n0001\t0\t0001.PNG\t0\t0002_label.PNG\n", 2, "number, 1 or 0"),
        ("1\n0002\t1\t0002.PNG\t0\t0\n", 2, "number, 1 or 0"),
        ("1\n0001\t2\t0001.PNG\t0\t0\n", 2, "number, 1 or 0"),
        (f"1\n{CLEAN}\n{CLEAN}\n", 3, "a second time"),
        (f"1\n{CLEAN}\n{CLEAN.lower()}\n", 3, "a second time"),
        ("1\n0009\t0\t0009.PNG\t0\t0\n", 2, "names 0009.PNG, which is not in"),
        ("1\n0002\t1\t0002.PNG\t0\t0009_label.PNG\n", 2, "names 0009_label.PNG, which is not in"),
    ],
)
def test_a_malformed_line_of_dagm_is_told_with_its_number(tmp_path: Path, text: str, line: int, word: str) -> None:
    (problem,) = told(dagm(tmp_path, text))
    assert f"Labels.txt:{line}: " in problem
    assert word in problem


def test_every_problem_is_told_at_once_and_many_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"{n:04d}\t0\t{n:04d}.PNG\t0\t0\n" for n in range(3, 53))
    problems = told(dagm(tmp_path, f"1\n{rows}"))
    assert len(problems) == 21
    assert "and 30 problems more" in problems[-1]


def test_labels_that_are_no_text_or_not_there(tmp_path: Path) -> None:
    folder = dagm(tmp_path, "")
    (folder / "Label" / "Labels.txt").write_bytes(b"1\n\xff\xfe\n")
    assert "cannot be read" in told(folder)[0]
    (folder / "Label" / "Labels.txt").unlink()
    assert "cannot be read" in told(folder)[0]


def test_images_that_no_label_names_are_counted(tmp_path: Path) -> None:
    assert read_dataset(dagm(tmp_path, f"1\n{BAD}\n")).unlisted == 1


def test_an_index_with_masks_classes_and_groups(tmp_path: Path) -> None:
    dataset = read_dataset(indexed(tmp_path, "a.jpg,a.png,Crack,7", "b.jpg,b.png,Free,8"))
    assert [(e.name, e.kind, e.group, e.is_defective) for e in dataset.images] == [
        ("a.jpg", "Crack", "7", True),
        ("b.jpg", "Free", "8", False),
    ]
    assert dataset.groups == ("7", "8")
    assert [each.name for each in dataset.of_groups({"8"}).images] == ["b.jpg"]


def test_masks_and_groups_may_be_left_out(tmp_path: Path) -> None:
    dataset = read_dataset(indexed(tmp_path, "a.jpg,Crack", "b.jpg,ok", header="image,class"))
    assert [each.group for each in dataset.images] == ["a.jpg", "b.jpg"]
    assert load(dataset.images[0]).mask is None
    good = load(dataset.images[1]).mask
    assert good is not None and not good.any()


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (("a.jpg,a.png,Crack",), "more or fewer cells"),
        (("a.jpg,a.png,Crack,1,2",), "more or fewer cells"),
        ((",a.png,Crack,1",), "has no image"),
        (("a.jpg,a.png,,1",), "has no class"),
        (("c.jpg,a.png,Crack,1",), "names c.jpg, which is not in"),
        (("a.jpg,c.png,Crack,1",), "names c.png, which is not in"),
        (("images/a.jpg,a.png,Crack,1",), "names images/a.jpg, which is not in"),
        (("a.jpg,masks/a.png,Crack,1",), "names masks/a.png, which is not in"),
        (("a.jpg,a.png,Crack,1", "a.jpg,a.png,Crack,1"), "a second time"),
        (("a.jpg,a.png,Crack,1", "./a.jpg,a.png,Free,1"), "a second time"),
    ],
)
def test_a_malformed_line_of_an_index_is_told_with_its_number(tmp_path: Path, lines: tuple[str, ...], word: str) -> None:
    (problem,) = told(indexed(tmp_path, *lines))
    assert f"index.csv:{len(lines) + 1}: " in problem
    assert word in problem


def test_an_index_without_its_columns(tmp_path: Path) -> None:
    (problem,) = told(indexed(tmp_path, "a.jpg", header="picture"))
    assert "no column class and no column image" in problem


@pytest.mark.parametrize("header", ["image,mask,class, group", " Image ,Mask,Class,Group"])
def test_spaces_and_capitals_in_the_first_line_of_an_index_lose_no_column(tmp_path: Path, header: str) -> None:
    dataset = read_dataset(indexed(tmp_path, "a.jpg,a.png,Crack,7", "b.jpg,b.png,Free,7", header=header))
    assert dataset.groups == ("7",)
    assert dataset.images[0].mask == tmp_path / "masks" / "a.png"


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    (problem,) = told(indexed(tmp_path, "a.jpg,Crack,Free", header="image,class,Class"))
    assert "index.csv:1: has several columns class" in problem


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_an_index_in_another_encoding_is_told_how_to_be_saved(tmp_path: Path, encoding: str) -> None:
    folder = indexed(tmp_path)
    (folder / "index.csv").write_bytes("image,class\na.jpg,d\u00e9faut\n".encode(encoding))
    assert "index.csv: cannot be read: it is no UTF-8" in told(folder)[0]
    assert "save it as UTF-8" in told(folder)[0]


@pytest.mark.parametrize("behind", [1, 20_000])
def test_a_quote_that_nothing_closes_is_told_with_its_line(tmp_path: Path, behind: int) -> None:
    (problem,) = told(indexed(tmp_path, "a.jpg,Crack", 'b.jpg,"Free', *["a.jpg,Crack"] * behind, header="image,class"))
    assert "index.csv:3: is no CSV" in problem
    assert "index.csv:1: is no CSV" in told(indexed(tmp_path, "a.jpg,Crack", header='"image,class'))[0]


def test_images_in_a_folder_of_their_own_hide_none_that_no_line_names(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "lot" / "c.png")
    assert read_dataset(indexed(tmp_path, "lot/c.png,Crack", "a.jpg,Free", header="image,class")).unlisted == 1


def test_names_that_differ_in_capitals_only_are_images_of_their_own(tmp_path: Path) -> None:
    for name in ("good/1.png", "good/1.PNG", "bad/1.png"):
        picture(tmp_path / name)
    assert sorted(each.name for each in read_dataset(tmp_path).images) == ["bad/1.png", "good/1.PNG", "good/1.png"]


def test_a_file_name_that_is_no_utf8_is_told_so_that_a_report_can_hold_it(tmp_path: Path) -> None:
    for name in ("good/1.png", "bad/1.png"):
        picture(tmp_path / name)
    (tmp_path / "bad" / "1.png").rename(tmp_path / "bad" / os.fsdecode(b"\xff.png"))
    dataset = read_dataset(tmp_path)
    assert [each.name for each in dataset.images] == ["good/1.png", "bad/\\xff.png"]
    assert [load(each).frame.shape for each in dataset.images] == [(6, 8)] * 2


def test_every_mask_of_another_size_is_told_before_an_image_is_read(tmp_path: Path) -> None:
    for folder, size in (("images", (20, 30)), ("masks", (20, 40))):
        (tmp_path / folder).mkdir()
        for name in ("a.png", "b.png", "c.png"):
            cv2.imwrite(str(tmp_path / folder / name), np.full((30, 20) if name == "c.png" else size, 200, np.uint8))
    (tmp_path / "index.csv").write_text("image,mask,class\na.png,a.png,crack\nb.png,b.png,crack\nc.png,c.png,crack\n")
    with pytest.raises(ConfigurationError) as refused:
        read_dataset(tmp_path)
    assert [Path(problem.file).name for problem in refused.value.problems] == ["a.png", "b.png"]
    assert refused.value.problems[0].message == "has 40x20 pixels, its image a.png 30x20."


def test_a_picture_that_is_turned_by_its_exif_fits_a_mask_that_is_not(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir(), (tmp_path / "masks").mkdir()
    lying = cv2.imencode(".jpg", np.full((20, 30), 90, np.uint8))[1].tobytes()
    turned = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    (tmp_path / "images" / "a.jpg").write_bytes(lying[:2] + b"\xff\xe1" + (len(turned) + 2).to_bytes(2, "big") + turned + lying[2:])
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), np.full((30, 20), 200, np.uint8))
    (tmp_path / "index.csv").write_text("image,mask,class\na.jpg,a.png,crack\n")
    (labelled,) = read_dataset(tmp_path).images
    assert load(labelled).frame.shape == (30, 20), "as it is shown"


def test_plain_folders_of_good_and_bad(tmp_path: Path) -> None:
    for name in ("good/1.png", "good/2.png", "bad/1.png"):
        picture(tmp_path / name)
    dataset = read_dataset(tmp_path)
    assert [(each.name, each.is_defective) for each in dataset.images] == [
        ("good/1.png", False),
        ("good/2.png", False),
        ("bad/1.png", True),
    ]
    (tmp_path / "bad" / "1.png").unlink()
    assert "bad: holds no image" in told(tmp_path)[0]


def make_absent(folder: Path) -> Path:
    return folder / "nothing"


def make_strange(folder: Path) -> Path:
    picture(folder / "1.png")
    return folder


def make_without_images(folder: Path) -> Path:
    return indexed(folder)


@pytest.mark.parametrize(
    ("make", "word"), [(make_absent, "does not exist"), (make_strange, "is no dataset"), (make_without_images, "names no image")]
)
def test_what_is_no_dataset_is_refused(tmp_path: Path, make: Callable[[Path], Path], word: str) -> None:
    assert word in told(make(tmp_path))[0]


def test_a_folder_that_may_not_be_looked_into_is_told_with_the_remedy() -> None:
    folder = open_folder()
    try:
        indexed(folder / "closed", "a.jpg,a.png,Crack,7")
        (folder / "closed").chmod(0o600)
        with (
            an_ordinary_user(),
            pytest.raises(ConfigurationError, match=r"closed.*: cannot be read: Permission denied.*chmod"),
        ):
            read_dataset(folder / "closed")
    finally:
        (folder / "closed").chmod(0o700)
        shutil.rmtree(folder)


def broken_pair(folder: Path, kind: str) -> Dataset:
    return read_dataset(indexed(folder, f"a.jpg,a.png,{kind},1"))


@pytest.mark.parametrize(
    ("file", "content", "kind", "word"),
    [
        ("images/a.jpg", b"no picture", "Crack", "not a readable image"),
        ("masks/a.png", b"no picture", "Crack", "not a readable image"),
        ("masks/a.png", cv2.imencode(".png", np.zeros((5, 5), np.uint8))[1].tobytes(), "Crack", "5x5 pixels, its image 8x6"),
        ("", b"", "Free", "shows a defect"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused_by_name(tmp_path: Path, file: str, content: bytes, kind: str, word: str) -> None:
    dataset = broken_pair(tmp_path, kind)
    if file:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ConfigurationError, match=word):
        load(dataset.images[0])


@pytest.mark.skipif(not DATA.exists(), reason="the folder shared/data is not beside the project")
def test_the_real_datasets_read_as_their_notes_say() -> None:
    dagm_images = read_dataset(DATA / "dagm" / "Class1")
    assert (len(dagm_images.images), sum(each.is_defective for each in dagm_images.images)) == (288, 36)
    tiles = read_dataset(DATA / "magnetic_tile")
    assert tiles.kinds == ("Blowhole", "Break", "Crack", "Fray", "Uneven", "Free")
    assert (len(tiles.images), sum(each.is_defective for each in tiles.images)) == (695, 191)
