"""The three layouts of a dataset's folder. Everything wrong is collected and told at once, with file and line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import imagesize

from edge_agent.dataset.labelled import Dataset, Labelled
from edge_agent.errors import ConfigurationError, Problem, remedy_of
from edge_agent.pictures import ENDINGS
from edge_agent.records import in_utf8
from edge_agent.typewords import counted

GOOD_KINDS = {"good", "free", "ok", "normal", "clean"}  # in small letters: what datasets call a part without a defect
DEFECT = "defect"  # what a defect is called where the data has no word for it
_MOST_PROBLEMS = 20
_COLUMNS = ("image", "mask", "class", "group")  # of index.csv; what else is there tells nothing
_ROW = "number, 1 or 0 for defective or not, image, 0, and the mask's name or 0"


class NoDataset(ConfigurationError):
    """A folder in none of the layouts: of images alone, maybe."""


def read_dataset(folder: Path) -> Dataset:
    """Return what the folder holds. Of images it reads the headers alone.

    Raises ConfigurationError with every problem, NoDataset without any layout."""
    try:
        if not folder.is_dir():
            raise ConfigurationError(
                f"the dataset {folder} {'is no folder' if folder.exists() else 'does not exist'}. Give a folder."
            )
        return _read(folder)
    except OSError as error:
        raise ConfigurationError.of(f"cannot be read: {error.strerror}.", remedy_of(error), error.filename or folder) from None


def _read(folder: Path) -> Dataset:
    problems: list[Problem] = []
    if (folder / "index.csv").exists():
        dataset = _read_index(folder, problems)
    elif parts := _dagm_parts(folder):
        dataset = _read_dagm(folder, parts, problems)
    elif (folder / "good").is_dir() or (folder / "bad").is_dir():
        dataset = _read_good_and_bad(folder, problems)
    else:
        raise NoDataset(
            f"{folder} is no dataset: it has neither index.csv, nor Label/Labels.txt in it or in its Train, Test or class folders, "
            "nor the folders good and bad. Give a folder with one of these."
        )
    problems += _masks_of_another_size(dataset)
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        if more > 0:
            problems[_MOST_PROBLEMS:] = [Problem(str(folder), 0, "", f"and {counted(more, 'problem')} more.")]
        raise ConfigurationError(problems)
    if not dataset.images:
        raise ConfigurationError(f"the dataset {folder} names no image. Give one that does.")
    return dataset


def _masks_of_another_size(dataset: Dataset) -> Iterator[Problem]:
    """By the files' headers. Either may be turned by its EXIF, so that its sides change places."""
    for each in dataset.images:
        if each.mask is not None:
            sizes = [imagesize.get(file) for file in (each.mask, each.image)]
            if all(min(size) > 0 for size in sizes) and sorted(sizes[0]) != sorted(sizes[1]):
                mask, image = (f"{width}x{height}" for width, height in sizes)
                message = f"has {mask} pixels, its image {each.name} {image}."
                yield Problem(str(each.mask), 0, "", message, "give one of the same size.")


def _images(folder: Path) -> list[Path]:
    """The images of a folder, sorted; none where there is no folder."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS) if folder.is_dir() else []


def _files(folder: Path) -> dict[str, Path]:
    """The images of a folder by their name in small letters: DAGM's end in .PNG, whatever a disk made of it."""
    return {file.name.casefold(): file for file in _images(folder)}


# --- DAGM 2007 ----------------------------------------------------------------------------------------------------
def _dagm_parts(folder: Path) -> dict[Path, str]:
    """The folders that have a `Label` folder, each with the kind of its defects."""
    if here := _halves(folder):
        classes = {folder.name, folder.parent.name} if folder.name in ("Train", "Test") else {folder.name}
        named = [name for name in classes if re.fullmatch(r"Class\d+", name)]
        return dict.fromkeys(here, named[0] if named else DEFECT)
    return {half: inner.name for inner in sorted(folder.iterdir()) if inner.is_dir() for half in _halves(inner)}


def _halves(folder: Path) -> list[Path]:
    return [each for each in (folder, folder / "Train", folder / "Test") if (each / "Label").is_dir()]


def _read_dagm(folder: Path, parts: Mapping[Path, str], problems: list[Problem]) -> Dataset:
    images: list[Labelled] = []
    unlisted = 0
    for part, kind in parts.items():
        files = _files(part)
        listed = list(_dagm_rows(folder, part, kind, files, problems))
        unlisted += len(files) - len({each.image for each in listed})
        images += listed
    return Dataset(folder, "DAGM", tuple(images), unlisted)


def _dagm_rows(folder: Path, part: Path, kind: str, files: dict[str, Path], problems: list[Problem]) -> Iterator[Labelled]:
    file = part / "Label" / "Labels.txt"
    masks, seen = _files(part / "Label"), set()
    for number, line in _lines_of_labels(file, problems):
        cells = [cell.strip() for cell in line.rstrip("\t ").split("\t")]
        if len(cells) != 5 or cells[1] not in ("0", "1") or (cells[1] == "0") != (cells[4] == "0"):
            problems.append(Problem(str(file), number, "", f"is {line!r}.", f"give, with tabs between: {_ROW}."))
            continue
        name, is_defective = cells[2], cells[1] == "1"
        if name.casefold() in seen:
            problems.append(Problem(str(file), number, "", f"names {name} a second time.", "leave one of them."))
        seen.add(name.casefold())
        image, mask = files.get(name.casefold()), masks.get(cells[4].casefold())
        if image is None:
            problems.append(Problem(str(file), number, "", f"names {name}, which is not in {part}.", "put it there."))
        elif is_defective and mask is None:
            problems.append(Problem(str(file), number, "", f"names {cells[4]}, which is not in {file.parent}.", "put it there."))
        else:
            relative = in_utf8(image.relative_to(folder).as_posix())
            yield Labelled(image, mask, kind if is_defective else "good", relative, relative, is_defective)


def _lines_of_labels(file: Path, problems: list[Problem]) -> Iterator[tuple[int, str]]:
    """The lines after the first, which is `1`, each with its number."""
    text = _text(file, problems)
    if text is None:
        return
    lines = text.splitlines()
    if not lines or lines[0].strip() != "1":
        found = repr(lines[0]) if lines else "empty"
        problems.append(Problem(str(file), 1, "", f"is {found}, not 1, with which DAGM's labels begin.", "restore the line."))
        return
    yield from ((number, line) for number, line in enumerate(lines[1:], 2) if line.strip())


def _text(file: Path, problems: list[Problem]) -> str | None:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        problems.append(Problem(str(file), 0, "", f"cannot be read: {error.strerror}.", "restore it."))
    except UnicodeDecodeError as error:
        message = f"cannot be read: it is no UTF-8 at byte {error.start}."
        problems.append(Problem(str(file), 0, "", message, "save it as UTF-8 (in a spreadsheet: as CSV UTF-8)."))
    return None


# --- index.csv ----------------------------------------------------------------------------------------------------
def _read_index(folder: Path, problems: list[Problem]) -> Dataset:
    file = folder / "index.csv"
    text = _text(file, problems)
    columns, rows = _table(text or "", file, problems)
    absent = sorted({"image", "class"} - set(columns)) if text is not None and not problems else []
    if absent and any(";" in name for name in columns):
        message = "has its cells separated by semicolons, as some spreadsheets write them."
        problems.append(Problem(str(file), 1, "", message, "save it with commas."))
        return Dataset(folder, "index", ())
    if absent:
        message = f"has no column {' and no column '.join(absent)}."
        problems.append(Problem(str(file), 1, "", message, "name the columns in the first line: image,mask,class,group."))
        return Dataset(folder, "index", ())
    if several := sorted(name for name in _COLUMNS if columns.count(name) > 1):
        problems.append(Problem(str(file), 1, "", f"has several columns {' and '.join(several)}.", "leave one of each."))
        return Dataset(folder, "index", ())
    listed: dict[Path, Labelled] = {}
    for number, row in rows:
        problem, labelled = _index_row(folder, row)
        if labelled is not None and labelled.image in listed:
            problem = f"names {labelled.name} a second time."
        if problem:
            problems.append(Problem(str(file), number, "", problem, "mend the line or the folder."))
        elif labelled is not None:
            listed[labelled.image] = labelled
    unlisted = set(_images(folder / "images")) - set(listed)
    return Dataset(folder, "index", tuple(listed.values()), len(unlisted))


def _table(text: str, file: Path, problems: list[Problem]) -> tuple[Sequence[str], list[tuple[int, dict[str, str]]]]:
    """The columns in small letters, and the rows with their line numbers up to one that is no CSV, such as a quote that nothing
    closes: it would take everything behind it into one cell."""
    reader = csv.DictReader(text.splitlines(), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    began = 0
    try:
        columns = reader.fieldnames = [name.strip().casefold() for name in reader.fieldnames or ()]
        began = reader.line_num
        for row in reader:
            began = reader.line_num
            rows.append((began, row))
    except csv.Error as error:
        problems.append(Problem(str(file), began + 1, "", f"is no CSV: {error}.", "close its quotes, or take them out."))
        return (), []
    return columns, rows


def _index_row(folder: Path, row: dict[str, str]) -> tuple[str, Labelled | None]:
    """What is wrong with a line, or '' and the image it tells of."""
    if None in row or None in row.values():
        return "has more or fewer cells than the first line has columns.", None
    name, mask_name, kind = (row.get(key, "").strip() for key in ("image", "mask", "class"))
    if not name or not kind:
        return f"has no {'class' if name else 'image'}.", None
    image, mask = folder / "images" / name, folder / "masks" / mask_name if mask_name else None
    for given, place in ((name, folder / "images"), (mask_name, folder / "masks")):
        if given and not (place / given).is_file():
            return f"names {given}, which is not in {place}.", None
    if image.suffix.lower() not in ENDINGS:
        return f"names {name}, which is no image ({', '.join(sorted(ENDINGS))}).", None
    is_defective = kind.casefold() not in GOOD_KINDS
    return "", Labelled(image, mask, kind, row.get("group", "").strip() or name, name, is_defective)


# --- good and bad -------------------------------------------------------------------------------------------------
def _read_good_and_bad(folder: Path, problems: list[Problem]) -> Dataset:
    images = []
    for inner, kind in (("good", "good"), ("bad", DEFECT)):
        files = _images(folder / inner)
        if not files:
            problems.append(
                Problem(str(folder / inner), 0, "", "holds no image.", "put good parts into good, defective ones into bad.")
            )
        for file in files:
            name = in_utf8(f"{inner}/{file.name}")
            images.append(Labelled(file, None, kind, name, name, inner == "bad"))
    return Dataset(folder, "folders", tuple(images))
