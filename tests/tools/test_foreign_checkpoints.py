"""What is no checkpoint, or one of other tools, is told in a line that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Tool = Callable[[str], ModuleType]
COMMAND = "python tools/train.py --data folder:x --folds 3 --fold 1 --out out/x"


def leave(tool: Tool, folder: Path, **shape: Any) -> Path:
    """A checkpoint whose network is told of with more than it has."""
    network = tool("networks").network_of(tool("unet").Shape(4, 1))
    folder.mkdir()
    told = {"weights": network.state_dict(), "shape": network.shape.as_dict() | shape, "training": {}}
    tool("checkpoints").save(told, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_the_beginning_of_a_checkpoint_is_told_as_such(tool: Tool, tmp_path: Path, share: float) -> None:
    file = leave(tool, tmp_path / "cap")
    tool("checkpoints").load_network(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(SystemExit, match=r"checkpoint\.pt is not what tools/train\.py leaves, or only a part of it"):
        tool("checkpoints").load(file)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x89PNG\r\n\x1a\n", bytes(range(255, 0, -1)), b"]\n", b"q\x93\x00"])
def test_a_file_of_anything_else_is_told_as_such(tool: Tool, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(SystemExit, match=r"checkpoint\.pt is not what tools/train\.py leaves"):
        tool("checkpoints").load(tmp_path / "checkpoint.pt")


def test_weights_alone_as_others_keep_them_are_no_checkpoint(tool: Tool, tmp_path: Path) -> None:
    import torch

    for number, content in enumerate((torch.nn.Conv2d(1, 1, 3).state_dict(), torch.zeros(3), [1, 2])):
        torch.save(content, tmp_path / f"{number}.pt")
        with pytest.raises(SystemExit, match=rf"{number}\.pt is not what tools/train\.py leaves"):
            tool("checkpoints").load_network(tmp_path / f"{number}.pt")


@pytest.mark.parametrize(("shape", "told"), [({"attention": True}, "attention"), ({"filters": 6}, "size mismatch")])
def test_a_network_of_other_tools_is_refused_with_what_differs(
    tool: Tool, tmp_path: Path, shape: dict[str, Any], told: str
) -> None:
    file = leave(tool, tmp_path / "cap", **shape)
    with pytest.raises(SystemExit, match=rf"(?s)cap/checkpoint\.pt holds a network that these tools do not make: .*{told}"):
        tool("checkpoints").load_network(file)


@pytest.mark.parametrize("more", ["--attention 3", "--loss focal"])
def test_a_command_of_other_tools_is_refused_with_what_differs(tool: Tool, more: str) -> None:
    assert tool("options").words_of(COMMAND).fold == 1
    with pytest.raises(SystemExit, match=f"{more}.* is not of this version of tools/train.py: .*{more.split()[1]}"):
        tool("options").differences(COMMAND, f"{COMMAND} {more}")


def test_a_training_on_drawn_parts_is_no_fold(tool: Tool) -> None:
    with pytest.raises(SystemExit, match="out/gen held out no group of a folder, so that it is no fold"):
        tool("folds").fold_of(Path("out/gen"), {"data": "generator:1", "command": COMMAND})
