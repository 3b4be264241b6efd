"""What is asked of a line over the control socket: it outlives a start, and many who ask at once cost one thread."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
import yaml
from bright import gray
from running import wait_until
from simulation import ask
from stations import StationFolder

from edge_agent import swapping
from edge_agent.bundle import Bundle
from edge_agent.daemon import Daemon
from edge_agent.errors import ConfigurationError
from edge_agent.inference.absent import AbsentSegmenter
from edge_agent.inference.model import load_model
from edge_agent.plc.sockets import is_taken
from edge_agent.settings import load_station
from edge_agent.wire import Reply, Request


class Running:
    """A daemon between its start and its end, asked over its control socket."""

    def __init__(self, station: StationFolder) -> None:
        self.control = station.settings["plc"]["control"]
        self.daemon = Daemon(load_station(station.write()))

    def __enter__(self) -> Running:
        self.daemon.start()
        wait_until(lambda: self.daemon.lines[0].book.ready)
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.close()

    def ask(self, **words: str) -> Reply:
        return ask(self.control, Request(line="line", **words), timeout_s=20)

    def stands(self) -> tuple[str, str]:
        line = self.daemon.publisher.heartbeat()["lines"]["line"]
        return line["recipe"], line["mode"]


@pytest.fixture
def recipes(station: StationFolder) -> StationFolder:
    """A station with the recipes part, which the settings name, strict and third."""
    station.add_images([gray()])
    station.settings["cameras"][0].update(trigger="software", repeat=True)
    station.write()
    for name in ("strict", "third"):
        write(station, name)
    return station


def write(station: StationFolder, name: str, **changed: object) -> None:
    (station.folder / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump({**station.recipe, "name": name, **changed}))


def test_recipe_and_mode_outlive_a_start(recipes: StationFolder, capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever crashes in the middle of a lot comes back within seconds: not with another product's recipe."""
    with Running(recipes) as here:
        assert here.ask(op="recipe", name="strict").ok
        assert here.ask(op="mode", mode="offline").ok
    with Running(recipes) as here:
        assert here.stands() == ("strict", "offline")
        assert "line.asked_kept" in "".join(capfd.readouterr())
        assert here.ask(op="mode", mode="online").ok
    with Running(recipes) as here:
        assert here.stands() == ("strict", "online")


def test_a_line_that_leaves_pictures_out_is_never_online(recipes: StationFolder) -> None:
    line = recipes.settings["lines"][0]
    line.update(mode="shadow")
    with Running(recipes) as here:
        assert here.ask(op="mode", mode="online").ok
    line.update(delivery="latest")
    with Running(recipes) as here:
        assert here.stands() == ("part", "shadow")
        refused = here.ask(op="mode", mode="online")
        assert (refused.ok, "delivery: every" in refused.error, here.stands()) == (False, True, ("part", "shadow"))
        assert here.ask(op="mode", mode="offline").ok
    with Running(recipes) as here:
        assert here.stands() == ("part", "offline")


def test_they_hold_until_the_settings_name_another(recipes: StationFolder) -> None:
    with Running(recipes) as here:
        assert here.ask(op="recipe", name="strict").ok
        assert here.ask(op="mode", mode="shadow").ok
    recipes.settings["lines"][0].update(recipe="third", mode="offline")
    with Running(recipes) as here:
        assert here.stands() == ("third", "offline")
    recipes.settings["lines"][0].update(recipe="part", mode="online")
    with Running(recipes) as here:
        assert here.stands() == ("part", "online"), "strict and shadow were asked for instead of what is long over"


def test_a_reload_that_names_another_ends_what_was_asked_for(recipes: StationFolder) -> None:
    with Running(recipes) as here:
        assert here.ask(op="recipe", name="strict").ok
        for named in ("third", "part"):
            recipes.settings["lines"][0]["recipe"] = named
            recipes.write()
            assert here.ask(op="reload").ok
            assert here.stands()[0] == named
    with Running(recipes) as here:
        assert here.stands()[0] == "part"


def test_a_recipe_that_is_gone_leaves_the_line_offline(recipes: StationFolder, capfd: pytest.CaptureFixture[str]) -> None:
    with Running(recipes) as here:
        assert here.ask(op="recipe", name="strict").ok
    (recipes.folder / "recipes" / "strict.yaml").unlink()
    with Running(recipes) as here:
        assert here.stands() == ("part", "offline")
    said = "".join(capfd.readouterr())
    assert said.count("line.recipe_gone") == 1
    assert "strict.yaml" in said
    write(recipes, "strict")
    with Running(recipes) as here:
        assert here.stands() == ("part", "offline"), "until somebody says so"


def test_of_many_who_ask_the_last_recipe_is_built_and_the_others_are_told(recipes: StationFolder) -> None:
    """An engine takes minutes to build, and whoever gets no answer asks again."""
    with Running(recipes) as here:
        swapper, forge, begun, go_on = here.daemon._swapper, here.daemon._swapper._forge, threading.Event(), threading.Event()

        def slow(*words: object, **more: object) -> object:
            begun.set()
            assert go_on.wait(10)
            return forge(*words, **more)  # type: ignore[arg-type]

        swapper._forge = slow  # type: ignore[assignment]
        came: list[tuple[str, Reply]] = []

        def asked(name: str) -> None:
            swapper.change_recipe("line", name, lambda reply: came.append((name, reply)))

        asked("strict")
        assert begun.wait(10)
        for name in ["third", "part"] * 50 + ["third"] * 50:
            asked(name)
        builders = [thread for thread in threading.enumerate() if thread.name == "build-bundle"]
        assert len(builders) == 1
        go_on.set()
        wait_until(lambda: len(came) == 151)
        assert Counter((name, reply.ok) for name, reply in came) == {
            ("strict", True): 1,
            ("third", False): 50,
            ("part", False): 50,
            ("third", True): 50,
        }
        why = next(reply.error for name, reply in came if not reply.ok)
        assert "recipe part was asked for before third was begun" in why
        assert here.stands()[0] == "third"


def test_a_start_that_is_refused_gives_its_addresses_back(recipes: StationFolder) -> None:
    settings = load_station(recipes.write())
    (recipes.folder / "recipes" / "part.yaml").unlink()
    with pytest.raises(ConfigurationError, match=r"part\.yaml"):
        Daemon(settings)
    with Running(recipes) as here:
        assert here.stands() == ("part", "online")


def test_nothing_waits_at_the_sockets_while_engines_are_built(recipes: StationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger of minutes ago would become a verdict on a part that is long gone."""
    listens: list[bool] = []
    forge = Daemon._forge

    def asked_meanwhile(daemon: Daemon, *words: Any, **more: Any) -> Any:
        listens.append(is_taken(recipes.settings["plc"]["control"]))
        return forge(daemon, *words, **more)

    monkeypatch.setattr(Daemon, "_forge", asked_meanwhile)
    with Running(recipes) as here:
        assert is_taken(here.control)
    assert listens == [False]


def test_a_recipe_that_a_late_engine_shows_to_be_wrong_leaves_the_line_offline(
    recipes: StationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Running(recipes) as here:
        assert here.ask(op="recipe", name="strict").ok
    monkeypatch.setattr(swapping, "_ENGINE_AGAIN_S", (0.05,))
    forge, calls = Daemon._forge, Counter[str]()

    def late(daemon: Daemon, recipe: str, *words: Any, **more: Any) -> Any:
        calls[recipe] += 1
        bundle = forge(daemon, recipe, *words, **more)
        if calls.total() == 1:
            model = load_model(daemon.station.path(daemon.station.settings.models) / bundle.recipe.model.name)
            return Bundle(bundle.recipe, AbsentSegmenter(model, "no GPU yet"), bundle.identity, False, "no GPU yet")
        if recipe == "strict":
            raise ConfigurationError("golden picture good.png: is NG by recipe strict, and must be PASS.")
        return bundle

    monkeypatch.setattr(Daemon, "_forge", late)
    with Running(recipes) as here:
        assert here.stands() == ("part", "offline")
        assert here.daemon._failure is None


def test_a_stop_waits_for_the_engine_that_is_being_opened(recipes: StationFolder) -> None:
    """Opened after the others were closed, it would stay open."""
    order: list[str] = []
    begun, closing = threading.Event(), threading.Event()
    with Running(recipes) as here:
        swapper, foundry = here.daemon._swapper, here.daemon._foundry
        forge, close = swapper._forge, foundry.close

        def slow(*words: Any, **more: Any) -> Any:
            begun.set()
            assert closing.wait(10)
            bundle = forge(*words, **more)
            order.append("opened")
            return bundle

        swapper._forge = slow  # type: ignore[assignment]
        here.daemon._closers[here.daemon._closers.index(close)] = lambda: (order.append("closed"), close())[1]
        stop = here.daemon._closers.index(swapper.close)
        here.daemon._closers[stop] = lambda: (threading.Timer(0.1, closing.set).start(), type(swapper).close(swapper))[1]
        swapper.change_recipe("line", "strict", lambda _: None)
        assert begun.wait(10)
        swapper.change_recipe("line", "third", lambda _: None)
    assert order == ["opened", "closed"]


@pytest.mark.parametrize("words", [{"op": "recipe", "name": "strict"}, {"op": "reload"}])
def test_a_stop_answers_who_waits_for_a_change_and_changes_nothing(recipes: StationFolder, words: dict[str, str]) -> None:
    begun, go_on, told = threading.Event(), threading.Event(), []
    with Running(recipes) as here:
        swapper, reloader = here.daemon._swapper, here.daemon._swapper._reloader
        forge = swapper._forge

        def slow(*of: Any, **more: Any) -> Any:
            begun.set()
            assert go_on.wait(10)
            return forge(*of, **more)

        swapper._forge = reloader._forge = slow  # type: ignore[assignment]
        write(recipes, "part", deadline_ms=4000)
        asker = threading.Thread(target=lambda: told.append(here.ask(**words)))
        asker.start()
        assert begun.wait(10)
        stop = here.daemon._closers.index(swapper.close)
        here.daemon._closers[stop] = lambda: (go_on.set(), type(swapper).close(swapper))[1]
    asker.join(10)
    assert [reply.ok for reply in told] == [False]
    assert "the station stops" in told[0].error
    assert here.daemon.lines[0].bundle.identity.deadline_ms == 5000
    with Running(recipes) as again:
        assert again.stands()[0] == "part"


def test_a_recipe_changes_also_where_the_cores_of_the_start_are_gone(
    recipes: StationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Running(recipes) as here:
        monkeypatch.setattr("edge_agent.process._ALLOWED", {4000})
        assert here.ask(op="recipe", name="strict").ok
        assert here.daemon._failure is None
