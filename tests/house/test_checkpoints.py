"""What lies beside a shipped model: its checkpoint tells the same of its training as the model's papers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from edge_agent.inference.model import load_model

MODELS = Path(__file__).parents[2] / "models"
ADDED_BY_EXPORT = {"log_odds_lowered_by", "judged_as_turned"}
OF_A_FOLDER = {"held_out", "trained_on", "trained_on_sha256"}


@pytest.mark.parametrize("name", sorted(file.parent.name for file in MODELS.glob("*/model.yaml")))
def test_a_shipped_checkpoint_and_its_model_tell_of_the_same_training(name: str) -> None:
    """Exported again, the model would get the papers that it has."""
    file = MODELS / name / "checkpoint.pt"
    if not file.exists():
        pytest.skip(f"{name}/checkpoint.pt is not here: git leaves it out; tools/train.py makes it by the command on the card")
    torch = pytest.importorskip("torch", reason="torch is not installed; `make tools` installs it")
    told = torch.load(file, map_location="cpu")["training"]
    papers = yaml.safe_load((MODELS / name / "model.yaml").read_text(encoding="utf-8"))["training"]
    assert told == {key: value for key, value in papers.items() if key not in ADDED_BY_EXPORT}
    assert "kept" in told
    assert not told["data"].startswith("folder:") or told.keys() >= OF_A_FOLDER
    assert load_model(file.parent).papers.name == name
