"""The station's choice of a calibrated engine: used where it belongs, refused loudly everywhere else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from small_unet import write_small_unet
from stations import StationFolder, an_ordinary_user

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from edge_agent.activation import Choice, processor, rules_hash, withdraw_choice, write_choice
from edge_agent.bundle import Bundle
from edge_agent.calibration.candidates import make, prepare
from edge_agent.errors import EdgeAgentError, EngineUnavailable
from edge_agent.foundry import Foundry
from edge_agent.inference import open_segmenter
from edge_agent.inference.base import Segmenter
from edge_agent.inference.graph import finish, read_network
from edge_agent.inference.model import CALIBRATED_PORTS, Model, load_model
from edge_agent.recipe import load_recipe
from edge_agent.settings import load_station

Said = list[tuple[str, dict[str, Any]]]


class Home:
    """A station whose recipe has a calibrated engine."""

    def __init__(self, station: StationFolder) -> None:
        station.recipe |= {"model": {"name": "unet"}, "regions": [{"name": "whole", "prepare": "resize"}]}
        self.model = load_model(write_small_unet(station.folder / "models" / "unet"))
        self.settings = load_station(station.write())
        self.state = station.folder / "state"
        self.recipe_file = station.folder / "recipes" / "part.yaml"
        self.graph = make("fp16", prepare(finish(read_network(self.model), self.model.papers), CALIBRATED_PORTS), {})
        self.engine_id = self.forge().identity.engine_id

    def forge(self, **changes: Any) -> Bundle:
        foundry = Foundry(self.settings, **changes)
        try:
            return foundry.forge("part", 1, 5)
        finally:
            foundry.close()

    def choose(self, **changes: Any) -> Path:
        content = self.graph.SerializeToString()
        recipe = load_recipe(self.recipe_file)
        choice = Choice(
            candidate="fp16",
            onnx=hashlib.sha256(content).hexdigest(),
            model=self.model.hash,
            rules=rules_hash(recipe),
            engine=self.engine_id,
            processor=processor(),
            speedup=1.5,
            images=100,
            flips=0,
            made_at="2026-01-01T00:00:00+00:00",
        )
        return write_choice(self.state, recipe, msgspec.structs.replace(choice, **changes), content)


@pytest.fixture
def home(station: StationFolder) -> Home:
    return Home(station)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    heard: Said = []
    monkeypatch.setattr("edge_agent.foundry.say", lambda name, **values: heard.append((name, values)))
    return heard


def test_a_choice_judges_and_its_identity_is_in_every_record(home: Home, said: Said) -> None:
    home.choose()
    identity = home.forge().identity
    digest = hashlib.sha256(home.graph.SerializeToString()).hexdigest()
    assert identity.engine_id == f"{home.engine_id}/fp16-{digest[:12]}"
    assert identity.model_hash == home.model.hash
    assert [name for name, _ in said] == ["engine.choice_used"]


def test_a_model_given_by_hand_is_not_replaced(home: Home) -> None:
    home.choose()
    assert home.forge(model=home.model.onnx.parent).identity.engine_id == home.engine_id


def test_a_change_that_no_verdict_depends_on_keeps_the_choice(home: Home) -> None:
    home.choose()
    home.recipe_file.write_text(home.recipe_file.read_text().replace("deadline_ms: 5000", "deadline_ms: 4000"))
    assert "fp16" in home.forge().identity.engine_id


def damage_graph(home: Home) -> None:
    file = next((home.state / "calibrated").glob("*.onnx"))
    file.write_bytes(file.read_bytes()[:-1])


def lose_graph(home: Home) -> None:
    next((home.state / "calibrated").glob("*.onnx")).unlink()


def damage_choice(home: Home) -> None:
    (home.state / "calibrated" / "part.json").write_text('{"candidate": "fp16", ')


def other_version(home: Home) -> None:
    file = home.state / "calibrated" / "part.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"v": 1}))


def other_rules(home: Home) -> None:
    home.recipe_file.write_text(home.recipe_file.read_text().replace("max: 0.9", "max: 0.8"))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (damage_graph, "damaged"),
        (lose_graph, "not there"),
        (damage_choice, "damaged"),
        (other_version, "damaged"),
        (other_rules, "another recipe's rules"),
        (lambda home: home.choose(model="0" * 64), "another model"),
        (lambda home: home.choose(processor="Another CPU"), "another processor: it was made for Another CPU"),
        (lambda home: home.choose(engine="openvino-1.0/cpu/latency"), "chosen on the engine openvino-1.0/cpu/latency"),
    ],
)
def test_a_foreign_or_damaged_choice_is_never_used(home: Home, said: Said, spoil: Callable[[Home], Any], why: str) -> None:
    home.choose()
    spoil(home)
    assert home.forge().identity.engine_id == home.engine_id
    (name, values), *_ = said
    assert name == "engine.choice_refused"
    assert why in values["why"]


def test_a_choice_of_a_gpu_that_is_away_is_not_to_be_made_again(home: Home, said: Said) -> None:
    home.choose(engine="tensorrt-10.16.1/NVIDIA L4/0123456789abcdef")
    assert home.forge().identity.engine_id == home.engine_id
    assert "mend the engine" in said[0][1]["remedy"]
    said.clear()
    home.choose(engine="openvino-1.0/cpu/latency")
    assert home.forge().identity.engine_id == home.engine_id
    assert said[0][1]["remedy"] == "run edge-agent calibrate --activate"


def test_where_the_engine_is_missing_the_remedy_is_not_to_calibrate(
    home: Home, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.choose()

    def opened(settings: Any, model: Model, *rest: Any) -> Segmenter:
        if model.hash != home.model.hash or model.onnx != home.model.onnx:
            raise EngineUnavailable("too little free memory")
        return open_segmenter(settings, model, *rest)

    monkeypatch.setattr("edge_agent.foundry.open_segmenter", opened)
    assert home.forge().identity.engine_id == home.engine_id
    assert [name for name, _ in said] == ["engine.choice_refused"]
    assert "mend the engine" in said[0][1]["remedy"]


def test_a_withdrawn_choice_leaves_nothing(home: Home) -> None:
    home.choose()
    assert withdraw_choice(home.state, load_recipe(home.recipe_file))
    assert not withdraw_choice(home.state, load_recipe(home.recipe_file))
    assert home.forge().identity.engine_id == home.engine_id
    assert list((home.state / "calibrated").iterdir()) == []


def test_a_state_folder_of_another_user_is_told_and_the_choice_stays(home: Home) -> None:
    file, recipe = home.choose(), load_recipe(home.recipe_file)
    choice = msgspec.json.decode(before := file.read_bytes(), type=Choice)
    refusal = r"cannot be changed .* Permission denied"
    file.parent.chmod(0o555)
    try:
        with an_ordinary_user():
            with pytest.raises(EdgeAgentError, match=refusal):
                write_choice(home.state, recipe, msgspec.structs.replace(choice, speedup=2.0), home.graph.SerializeToString())
            with pytest.raises(EdgeAgentError, match=refusal):
                withdraw_choice(home.state, recipe)
    finally:
        file.parent.chmod(0o755)
    assert file.read_bytes() == before


def test_a_folder_in_the_place_of_the_choice_is_named_and_one_in_that_of_a_graph_holds_up_none(home: Home) -> None:
    file, recipe = home.choose(), load_recipe(home.recipe_file)
    strange = file.parent / f"{'0' * 64}.onnx"
    strange.mkdir()
    assert home.choose() == file
    assert withdraw_choice(home.state, recipe)
    file.mkdir()
    remedy = r"cannot be changed .*part\.json: Is a directory\. Something else lies in its place.* move that away"
    with pytest.raises(EdgeAgentError, match=remedy):
        home.choose()
    with pytest.raises(EdgeAgentError, match=remedy):
        withdraw_choice(home.state, recipe)
