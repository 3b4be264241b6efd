"""What was asked of the lines over the control socket, recipe and mode: it outlives a start, until the settings name another.

Kept beside the lines' counters, which belong to the publisher's thread once that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from edge_agent.errors import ConfigurationError
from edge_agent.events import say
from edge_agent.plc.counters import Counters
from edge_agent.plc.parts import OFFLINE, ONLINE, LineBook
from edge_agent.settings import LineSettings


def _at_once(work: Callable[[], None]) -> None:
    work()


class Asked:
    """By line: which recipe and mode stand, and keeping what is asked for from now on. Makes the lines' `books`, in their modes."""

    def __init__(self, counters: Counters, lines: Iterable[LineSettings]) -> None:
        self.run: Callable[[Callable[[], None]], None] = _at_once  # has something done on the thread that owns the counters
        self._lines = counters.lines
        self._named = {line.name: line.recipe or "" for line in lines}  # '' of a line with views: each has its own
        self.books: dict[str, LineBook] = {}
        for line in lines:
            stands, is_preview = self._lines[line.name].begin(self._named[line.name], line.mode), line.delivery == "latest"
            if is_preview and stands.mode == ONLINE:  # asked for before the settings made a preview of it
                self._lines[line.name].ask_mode(line.mode)
                stands = self._lines[line.name].kept.asked
            if (stands.recipe, stands.mode) != (self._named[line.name], line.mode):
                say("line.asked_kept", line=line.name, recipe=stands.recipe, mode=stands.mode)
            self.books[line.name] = LineBook(line.name, stands.mode, is_preview=is_preview)

    def recipe(self, line: str, named: str) -> str:
        """The recipe to judge by, where the settings name this one for the line or its view."""
        return self._lines[line].kept.asked.recipe or named

    def keep_recipe(self, line: str, recipe: str, *, is_named: bool) -> None:
        """The line judges by this one from here on, beyond the next start too; `is_named`, because the settings name it now."""
        if is_named:
            self._named[line] = recipe
        self.run(partial(self._lines[line].name_recipe if is_named else self._lines[line].ask_recipe, recipe))

    def fall_back(self, line: str, recipe: str, error: ConfigurationError) -> str:
        """A recipe cannot be used at a start: return the settings' one, by which the line is offline now, for nobody asked for it.

        Raises the error where it is the settings' own."""
        named = self._named.get(line, "")
        if not named or recipe == named:
            raise error
        say("line.recipe_gone", line=line, recipe=recipe, named=named, why=str(error))
        self.books[line].mode = OFFLINE
        self.run(partial(self._lines[line].give_up, OFFLINE))
        return named
