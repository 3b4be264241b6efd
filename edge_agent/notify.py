"""What the service manager is told: datagrams of KEY=VALUE lines on the socket that NOTIFY_SOCKET names, as sd_notify(3) has it."""

from __future__ import annotations

import contextlib
import os
import socket
import time

from edge_agent.errors import Stopping

_PATIENCE_S = 120  # from one word of a builder's to the next, or to READY
_TELL_S = 1.0
_MOST_BYTES = 3000  # of one value: systemd passes over a message beyond 4096 bytes (NOTIFY_BUFFER_MAX), READY=1 in it too


def notify(**fields: str | int) -> bool:
    """Tell systemd, READY=1 for instance. Never blocks, never raises.

    False where somebody asked to be told and could not be: at a crowded boot the socket may be full. Try again then."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return True
    text = "\n".join(f"{key}={_one_line(value)}" for key, value in fields.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as end:
        end.sendto(text.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        return True
    return False


def extend_timeout(seconds: float) -> None:
    """What is under way may take so long from here on, whatever the unit's TimeoutStartSec or TimeoutStopSec."""
    notify(EXTEND_TIMEOUT_USEC=int(seconds * 1e6))


def notify_reloading() -> None:
    """The settings are being read again; READY=1 ends it."""
    notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)


class Building:
    """What is being built and for how long; as long as it says so, systemd waits beyond the unit's TimeoutStartSec."""

    def __init__(self) -> None:
        self.text = ""  # '' while nothing is built
        self.tells_status = True  # until somebody else has the status and puts `text` into it
        self._what, self._began_s, self._tell_at_s = "", 0.0, 0.0
        self._is_over = False

    def give_up(self) -> None:
        """Nobody waits for it any more: whoever builds hears of it at the next word."""
        self._is_over = True

    def tell(self, what: str, at: str) -> None:
        """Say that `what` is being built and what its builder is at; '' is a sign of life. Called as often as one likes.

        Raises Stopping where it was given up."""
        if self._is_over:
            raise Stopping(f"{what} is not built any further: the station stops.")
        now_s = time.monotonic()
        if what != self._what:
            self._what, self._began_s, self._tell_at_s = what, now_s, 0.0
        if now_s < self._tell_at_s:
            return
        self._tell_at_s = now_s + _TELL_S
        self.text = f"building {what} for {now_s - self._began_s:.0f} s" + (f": {at}" if at else "")
        status = {"STATUS": self.text} if self.tells_status else {}
        notify(EXTEND_TIMEOUT_USEC=_PATIENCE_S * 1_000_000, **status)

    def end(self) -> None:
        """What was built is there, or will not come."""
        self.text = self._what = ""


def watchdog_s() -> float:
    """After how many seconds of silence systemd ends this process; 0 where it watches over none, or another."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdigit() else 0.0


class Watchdog:
    """systemd's, fed by a loop that calls `feed` whenever it gets on: often, for it costs a look at the clock."""

    def __init__(self) -> None:
        self._every_s = watchdog_s() / 4
        self._at_s = 0.0

    def feed(self) -> None:
        """Tell systemd that this process gets on, where a quarter of its patience is over."""
        now_s = time.monotonic()
        if self._every_s and now_s >= self._at_s:
            self._at_s = now_s + self._every_s
            notify(WATCHDOG=1)


def _one_line(value: str | int) -> str:
    text = " ".join(str(value).split()).encode(errors="replace")
    return text.decode() if len(text) <= _MOST_BYTES else f"{text[:_MOST_BYTES].decode(errors='ignore')} ..."
