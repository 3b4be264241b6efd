"""Answers that are owed to whoever asked for a change: each is given once, and at a stop all at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator

from edge_agent.wire import Reply

Answer = Callable[[Reply], None]
STOPPING = Reply(ok=False, error="the station stops; the recipes before stay. Ask again when it runs.")


class OwedAnswers:
    """Of all requests under way. Used by every thread that takes a request or carries one out."""

    def __init__(self) -> None:
        self._owed: list[Answer] = []
        self._is_stopping = False
        self._lock = threading.Lock()  # over these two, and over a change that takes effect

    def take(self, answer: Answer) -> bool:
        """Owe it from here on. False where the station stops: then that is the answer."""
        with self._lock:
            if not self._is_stopping:
                self._owed.append(answer)
                return True
        answer(STOPPING)
        return False

    def give(self, answers: Iterable[Answer], reply: Reply) -> None:
        """To those of them that are still owed it."""
        for answer in answers:
            with self._lock:
                is_owed = answer in self._owed
                if is_owed:
                    self._owed.remove(answer)
            if is_owed:
                answer(reply)

    @contextlib.contextmanager
    def taking_effect(self) -> Iterator[bool]:
        """While a change takes effect, no stop begins. False where one has begun, and nothing changes any more."""
        with self._lock:
            yield not self._is_stopping

    def stop(self) -> None:
        """Whoever waits for a change is told that it does not come; nothing changes any more."""
        with self._lock:
            self._is_stopping = True
        self.give(tuple(self._owed), STOPPING)
