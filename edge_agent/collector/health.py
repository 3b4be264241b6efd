"""Whether the store works: told when it turns, not at every attempt."""

from __future__ import annotations

from edge_agent.events import say


class Health:
    """What the log was told last of one store."""

    def __init__(self) -> None:
        self._why = ""

    def fail(self, why: str) -> None:
        """The store failed; told where it worked before, or failed otherwise."""
        if why != self._why:
            self._why = why
            say("collector.failed", why=why)

    def recover(self) -> None:
        """The store has taken something; told where it failed before."""
        if self._why:
            self._why = ""
            say("collector.recovered")
