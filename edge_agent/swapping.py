"""Bundles that change while parts run: a recipe asked for, a reload of everything, an engine that comes late.

Each is built and proved aside, on a thread of its own and one after another, and swapped in between two parts. What cannot be used
changes nothing and is said.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge_agent import process
from edge_agent.bundle import Bundle
from edge_agent.errors import ConfigurationError, EdgeAgentError, EngineError, EngineLost, EngineUnavailable, Stopping
from edge_agent.events import say
from edge_agent.inference.absent import AbsentSegmenter
from edge_agent.inference.base import Segmenter
from edge_agent.line import Line
from edge_agent.notify import notify, notify_reloading
from edge_agent.owed import STOPPING, Answer, OwedAnswers
from edge_agent.recipe import Recipe
from edge_agent.reload import Forge, Reading, Reloader
from edge_agent.wire import Reply

_ENGINE_AGAIN_S = (5.0, 10.0, 30.0, 60.0)  # until a missing engine is looked for again
_READY_AGAIN_S = 0.1
_CLOSES_S = 10.0  # a stop waits so long for an engine that is being opened; one that is being built is given up


class Owner(Protocol):
    """What swapping needs of the daemon."""

    def adopt_recipe(self, line: str) -> str: ...

    def keep_recipe(self, line: str, recipe: str, *, is_named: bool) -> None: ...

    def forge_asked(self, line: str, recipe: str, generation: int, guard_ms: float, kept: Recipe | None = None) -> Bundle: ...

    def tell_refusal(self, why: str) -> None: ...

    def fail(self, failure: EdgeAgentError) -> None: ...


@dataclass(slots=True)
class _Wanted:
    """A recipe that somebody asked for, and who waits for what comes of it."""

    recipe: str
    answers: list[Answer]


class Swapper:
    """Owns every change of a bundle after the start. `views` are the lines' threads by the name of their line; `release`, given the
    engines that they judge by, unloads others."""

    def __init__(
        self,
        views: Mapping[str, Sequence[Line]],
        forge: Forge,
        reloader: Reloader,
        owner: Owner,
        stop: threading.Event,
        release: Callable[[Iterable[Segmenter]], None],
    ) -> None:
        self._views, self._forge, self._reloader, self._owner, self._stop = views, forge, reloader, owner, stop
        self._release = release
        self._building = threading.Lock()  # one change after another
        self._is_asked = self._is_reloading = False
        self._asking: list[Answer] = []  # who waits for what comes of the next reading
        self._reload_lock = threading.Lock()  # over these, and over what systemd is told of them
        self._wanted: dict[str, _Wanted] = {}  # by line: the recipe that is to be built next
        self._unusable: dict[str, str] = {}  # by view: why the recipe as it is now cannot be used, while the engine is missing
        self._changing: set[str] = set()  # lines with a thread that builds what is wanted
        self._wanted_lock = threading.Lock()
        self._owed = OwedAnswers()

    def ask_to_stop(self) -> None:
        """Whoever waits for a change is told that it does not come, while there are sockets to say so; nothing changes any more."""
        self._owed.stop()

    def close(self) -> None:
        """Begin no change any more, and wait a while for the one under way: an engine that nobody closes, because it came after
        the end, may end the process by a signal."""
        self._stop.set()  # a lock is not fair: whoever let go of it may have it again
        self._building.acquire(timeout=_CLOSES_S)

    def change_recipe(self, name: str, recipe: str, answer: Answer) -> None:
        """Build the new bundle aside, swap between two parts, answer then; one is built for a line at a time, and of those that
        wait the last alone. Raises ConfigurationError for a line with views."""
        line = self._views[name][0]
        if line.is_view:
            raise ConfigurationError(f"line {name} has views with a recipe each. Change them in the settings and start again.")
        if not self._owed.take(answer):
            return None
        with self._wanted_lock:
            before = self._wanted.get(name)
            if before is not None and before.recipe == recipe:
                return before.answers.append(answer)
            self._wanted[name] = _Wanted(recipe, [answer])
            is_changing = name in self._changing
            self._changing.add(name)
        if before is not None:
            why = f"recipe {recipe} was asked for before {before.recipe} was begun. Ask for {before.recipe} again if it is wanted."
            self._owed.give(before.answers, Reply(ok=False, error=why))
        if not is_changing and (why := _begun(self._change, name, line)):
            with self._wanted_lock:
                self._changing.remove(name)
                wanted = self._wanted.pop(name)
            say("line.recipe_refused", line=name, recipe=recipe, why=why)
            self._owed.give(wanted.answers, Reply(ok=False, error=why))
        return None

    def _change(self, name: str, line: Line) -> None:
        """Build what is wanted for a line until nothing is."""
        process.unbind()
        while True:
            with self._wanted_lock:
                wanted = self._wanted.pop(name, None)
                if wanted is None or self._stop.is_set():
                    self._changing.remove(name)
                    return
            self._owed.give(wanted.answers, self._build(name, line, wanted.recipe))

    def _release_idle(self) -> None:
        """Before a change, never within one: an engine that was opened for it serves no line yet."""
        self._release([line.bundle.segmenter for views in self._views.values() for line in views])

    def _swap(self, name: str, line: Line, bundle: Bundle) -> str:
        """Return why no challenge with master parts can be passed from here on, '' where one can."""
        line.swap(bundle)
        return self._owner.adopt_recipe(name)

    def _build(self, name: str, line: Line, recipe: str) -> Reply:
        with self._building:
            self._release_idle()
            try:
                bundle = self._forge(recipe, line.bundle.identity.generation + 1, line.guard_ms)
            except Stopping:
                return STOPPING
            except EngineLost as error:  # of every line's engine, whatever was to be opened
                self._owner.fail(error)
                return Reply(ok=False, error=str(error))
            except EdgeAgentError as error:
                say("line.recipe_refused", line=name, recipe=recipe, why=str(error))
                return Reply(ok=False, error=str(error))
            except Exception as error:
                say("line.recipe_refused", line=name, recipe=recipe, exc_info=error)
                return Reply(ok=False, error=f"{type(error).__name__}: {error}. The recipe before stays.")
            with self._owed.taking_effect() as may_change:
                if not may_change:
                    return STOPPING
                unpassable = self._swap(name, line, bundle)
                self._owner.keep_recipe(name, recipe, is_named=False)
        say("line.recipe_changed", line=name, recipe=recipe, hash=bundle.identity.recipe_hash)
        return Reply(ok=True, status=_status({name: unpassable}, []))

    def reload(self, answer: Answer | None = None) -> None:
        """Read settings, recipes and models again on a thread of its own; swap what changed, or keep everything and say why.

        Asked for again meanwhile, everything is read once more, and the service is ready only after that. `answer` is called
        with what came of a reading that began after this."""
        if answer is not None and not self._owed.take(answer):
            return
        with self._reload_lock:
            notify_reloading()
            self._is_asked = True
            if answer is not None:
                self._asking.append(answer)
            if self._is_reloading:
                return
            self._is_reloading = True
        if why := _begun(self._reload_as_asked):
            self._refuse_reload_unbegun(why)

    def _refuse_reload_unbegun(self, why: str) -> None:
        refusal = self._refused(why)
        with self._reload_lock:
            self._is_asked = self._is_reloading = False
            asking, self._asking = self._asking, []
            notify(READY=1)
        self._owed.give(asking, refusal)

    def _reload_as_asked(self) -> None:
        process.unbind()
        while not self._stop.is_set():
            with self._reload_lock:
                is_asked, self._is_asked = self._is_asked, False
                asking, self._asking = self._asking, []
                if not is_asked and notify(READY=1):
                    self._is_reloading = False
                    return
            if is_asked:
                self._owed.give(asking, self._reload())
            else:
                self._stop.wait(_READY_AGAIN_S)

    def _reload(self) -> Reply:
        with self._building:
            self._release_idle()
            try:
                reading = self._reloader.fresh()
            except Stopping:
                return STOPPING
            except Exception as error:
                why = str(error) if isinstance(error, EdgeAgentError) else f"{type(error).__name__}: {error}"
                if isinstance(error, EngineLost):
                    self._owner.fail(error)
                return self._refused(why)
            else:
                unpassable = self._take_over(reading)
                if unpassable is None:
                    return STOPPING
                self._owner.tell_refusal("")
                say("station.reloaded", changed={name: bundle.identity.recipe_hash for name, _, bundle in reading.changed})
                return Reply(ok=True, status=_status(unpassable, reading.restart))

    def _refused(self, why: str) -> Reply:
        self._owner.tell_refusal(f"reload refused, the recipes before stay: {why}")
        say("station.reload_refused", why=why)
        return Reply(ok=False, error=f"refused, the recipes before stay: {why}")

    def _take_over(self, reading: Reading) -> dict[str, str] | None:
        """None where the station stops, and nothing changes any more; else why lines that changed can pass no challenge."""
        with self._owed.taking_effect() as may_change:
            if not may_change:
                return None
            unpassable = {name: self._swap(name, line, bundle) for name, line, bundle in reading.changed}
            for (name, _), recipe in reading.named.items():
                self._owner.keep_recipe(name, recipe, is_named=True)
            return unpassable

    def await_engines(self) -> None:
        """Where an engine is missing, look for it again and again on a thread of its own; its line turns ready when it has come."""
        if self._without_engine() and not _is_begun("open-engine", self._await_engines):
            why = "the engine is missing, and the system starts no thread to look for it"
            self._owner.fail(EngineUnavailable(f"{why}. Free memory, or raise TasksMax= or MemoryMax= of the service."))

    def _without_engine(self) -> list[tuple[str, Line, str]]:
        """Each with the name of its line and why it has none."""
        every = [(name, line, line.bundle.segmenter) for name, views in self._views.items() for line in views]
        return [(name, line, engine.why) for name, line, engine in every if isinstance(engine, AbsentSegmenter)]

    def _await_engines(self) -> None:
        told = ""
        for waited in itertools.count():
            why = next((why for _, _, why in self._without_engine()), "")
            if why and why != told:
                say("engine.unavailable", why=why)
            told = why
            if not why or self._stop.wait(_ENGINE_AGAIN_S[min(waited, len(_ENGINE_AGAIN_S) - 1)]):
                break
            process.unbind()
            try:
                self._equip()
            except Stopping:
                break
            except EngineError as error:
                self._owner.fail(error)
                break

    def _equip(self) -> None:
        """Try once for every line without an engine. Raises EngineError for an engine that came and did not answer."""
        with self._building:
            for name, line, _ in self._without_engine():
                bundle = self._equipped(line)
                self._swap(name, line, bundle)
                if not isinstance(bundle.segmenter, AbsentSegmenter):
                    say("engine.available", line=line.book.name, engine=bundle.identity.engine_id)

    def _equipped(self, line: Line) -> Bundle:
        """By the recipe as its file is now; where that cannot be used, by the one before, as after a reload that is refused. Where
        that cannot either, its model being another, say, the line stays as it is, and tells why."""
        before, view = line.bundle, line.book.name
        recipe, generation = before.recipe.name, before.identity.generation + 1
        try:
            bundle = self._forge(recipe, generation, line.guard_ms, may_wait=True)
        except ConfigurationError as error:
            if self._unusable.get(view) != str(error):
                self._unusable[view] = str(error)
                say("line.recipe_refused", line=view, recipe=recipe, why=str(error))
        else:
            self._unusable.pop(view, None)
            return bundle
        try:
            return self._owner.forge_asked(view, recipe, generation, line.guard_ms, before.recipe)
        except ConfigurationError as error:
            return before.refused(str(error))


def _status(unpassable: dict[str, str], restart: list[str]) -> dict[str, object]:
    """What an answer tells beside ok: by line, why no challenge can be passed by the recipe; settings for the next start."""
    challenge = {name: why for name, why in unpassable.items() if why}
    return {key: told for key, told in (("challenge", challenge), ("restart", restart)) if told}


def _begun(change: Callable[..., None], *of: object) -> str:
    """Have a thread of its own make this change; return why there is none, '' where there is."""
    if _is_begun("build-bundle", change, *of):
        return ""
    return "the system starts no more threads. Free memory, or raise TasksMax= or MemoryMax= of the service, and ask again."


def _is_begun(name: str, work: Callable[..., None], *of: object) -> bool:
    try:
        threading.Thread(target=work, args=of, name=name, daemon=True).start()
    except RuntimeError:
        return False
    return True
