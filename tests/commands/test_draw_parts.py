"""`edge-agent draw-parts`: DAGM's own layout, the same bytes for the same seed, and labels that are true."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
from stations import Program

from edge_agent.commands.draw_parts import CLASSES

SMALL = ("--count", 3, "--rows", 96, "--cols", 128, "--defect-share", 0.5)


def draw(program: Program, out: Path, *words: object) -> Path:
    result = program("draw-parts", "--out", out, *SMALL, *words)
    assert result.returncode == 0, result.stderr
    return out


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file by its path."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in found}


def test_the_layout_is_dagms_and_the_labels_are_true(edge_agent: Program, tmp_path: Path) -> None:
    out = draw(edge_agent, tmp_path / "parts", "--defect-share", 0.6)
    assert sorted(p.name for p in out.iterdir()) == [f"Class{k}" for k in range(1, 7)]
    states = set()
    for folder in sorted(out.glob("Class*/T*")):
        rows = (folder / "Label" / "Labels.txt").read_bytes().decode("ascii").split("\n")
        assert (rows[0], rows[-1], len(rows)) == ("1", "", 5)
        numbers = range(1, 4) if folder.name == "Train" else range(4, 7)
        for number, row in zip(numbers, rows[1:-1], strict=True):
            name, label = f"{number:04d}", folder / "Label" / f"{number:04d}_label.PNG"
            assert row in (f"{name}\t0\t{name}.PNG\t0\t0\t", f"{name}\t1\t{name}.PNG\t0\t{name}_label.PNG")
            states.add(label.exists())
            assert label.exists() == (row.split("\t")[1] == "1")
            picture = cv2.imread(str(folder / f"{name}.PNG"), cv2.IMREAD_UNCHANGED)
            assert picture.shape == (96, 128) and picture.dtype == np.uint8
            if label.exists():
                assert np.unique(cv2.imread(str(label), cv2.IMREAD_UNCHANGED)).tolist() == [0, 255]
        assert {file.name for file in folder.iterdir()} == {"Label", *(f"{n:04d}.PNG" for n in numbers)}
    assert states == {True, False}


def test_the_same_seed_draws_the_same_bytes_and_another_does_not(edge_agent: Program, within: Program, tmp_path: Path) -> None:
    one = contents(draw(edge_agent, tmp_path / "one", "--seed", 4))
    same, other = (contents(draw(within, tmp_path / str(seed), "--seed", seed)) for seed in (4, 5))
    assert len(one) > len(CLASSES) * 2 * 4
    assert one == same
    assert {one[f] for f in one if f.endswith("1.PNG")}.isdisjoint(other.values())


def test_fewer_classes_leave_the_others_as_they_are(within: Program, tmp_path: Path) -> None:
    all_six, two = (contents(draw(within, tmp_path / str(k), "--classes", k)) for k in (6, 2))
    assert two == {file: digest for file, digest in all_six.items() if file[:6] in ("Class1", "Class2")}


def test_labels_in_the_other_dialect(within: Program, tmp_path: Path) -> None:
    lf, crlf = (draw(within, tmp_path / way, "--classes", 1, "--line-ends", way) for way in ("lf", "crlf"))
    texts = [(out / "Class1" / "Train" / "Label" / "Labels.txt").read_bytes() for out in (lf, crlf)]
    assert texts[1].startswith(b"1\r\n0001\t")
    assert texts[1].replace(b"\r\n", b"\n") == texts[0]
    assert b"\r" not in texts[0]


def test_a_folder_in_use_is_left_alone(within: Program, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = within("draw-parts", "--out", tmp_path, *SMALL)
    assert result.returncode == 2
    assert "is not empty: it holds notes.txt" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    result = within("draw-parts", "--out", tmp_path / "notes.txt", *SMALL)
    assert result.returncode == 2
    assert "cannot be used as a folder" in result.stderr
