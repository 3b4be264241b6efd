"""Be a Modbus TCP server for the PLC of a line: verdicts as registers, triggers from registers. docs/modbus.md has the map."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import secrets
import signal
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from edge_agent.addresses import PLAINTEXT, is_loopback, of_host
from edge_agent.commands.reach import of_this_machine
from edge_agent.errors import ConfigurationError, EdgeAgentError, UsageError
from edge_agent.events import say
from edge_agent.fieldbus.exchange import SILENCE_S, Exchange
from edge_agent.fieldbus.modbus import ModbusServer
from edge_agent.notify import notify
from edge_agent.plc.asking import Asking
from edge_agent.plc.gateway import Gateway
from edge_agent.settings import Station, load_station
from edge_agent.wire import Reply, Request

_LOOK_S = 0.01  # how late a heartbeat may be noted
_FIRST_BEAT_S = 2.0  # how long a new connection may take to bring one
_ANSWERS_S = 0.005
_AWAY = "the station is away; is the daemon running?"
_RECIPE = re.compile(r"^([1-9]\d{0,4})=(.+)$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the station's settings")
    parser.add_argument("--line", default="", help="the line's name; may be left out where there is but one")
    parser.add_argument(
        "--listen", default="127.0.0.1:5020", metavar="HOST:PORT", help="where the PLC connects, at port 502 mostly"
    )
    parser.add_argument("--recipes", default="", metavar="N=NAME,...", help="the numbers by which the PLC asks for recipes")
    parser.add_argument("--low-word-first", action="store_true", help="numbers of 32 bits have their low word first")
    parser.add_argument("--allow-plaintext", action="store_true", help="listen beyond this machine: Modbus encrypts nothing")


def run(args: argparse.Namespace) -> int:
    host, port = _address(args.listen)
    if not is_loopback(of_host(host, port)) and not args.allow_plaintext:
        raise ConfigurationError(f"--listen {args.listen}: {PLAINTEXT} Use 127.0.0.1, or add --allow-plaintext.")
    station = load_station(args.config)
    link = Link(station, _line(station, args.line), _recipes(args.recipes), args.low_word_first)
    try:
        asyncio.run(link.serve(host, port))
    finally:
        link.close()
    return 0


class Link:
    """Between one line and its PLC: verdicts on a thread of their own, requests and registers on the event loop."""

    def __init__(self, station: Station, line: str, recipes: dict[int, str], low_word_first: bool) -> None:
        plc, keys = station.settings.plc, station.plc_keys()
        ours = None if keys is None else keys.own.to_itself()
        self._lock = threading.Lock()
        self._exchange = Exchange(line, recipes, secrets.token_hex(3), low_word_first=low_word_first)
        self._server = ModbusServer(self._exchange, self._lock, self._ask, low_word_first=low_word_first)
        self._open = partial(Gateway, of_this_machine(plc.verdicts), keys=ours)
        self._gateway = self._open()
        self._asking = Asking(of_this_machine(plc.control), ours)
        self._stop = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="verdicts")

    async def serve(self, host: str, port: int) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        at = await self._server.listen(host, port)
        self._listener.start()
        say("modbus.started", address=f"{at[0]}:{at[1]}")
        notify(READY=1, STATUS=f"listening on {at[0]}:{at[1]}")
        while not self._stop.is_set() and self._listener.is_alive():
            await asyncio.sleep(_ANSWERS_S)
            self._take(self._asking.replies())
            self._look()
        notify(STOPPING=1)
        await self._server.close()
        if not self._stop.is_set():
            raise EdgeAgentError("the thread that hears verdicts ended; see the traceback above. Remedy: report it.")

    def close(self) -> None:
        self._stop.set()
        if self._listener.ident is not None:
            self._listener.join()
        self._gateway.close()
        self._asking.close()

    def _listen(self) -> None:
        """Hand over each heartbeat and each verdict as it comes. After a silence the connection is thrown away, with all that was
        held up in it, on the way or in this process: a verdict that comes late is no live one."""
        while not self._stop.is_set():
            self._listen_until_silent()
            self._gateway.close()
            self._gateway = self._open()

    def _listen_until_silent(self) -> None:
        beat_at, until_s = 0.0, time.monotonic() + _FIRST_BEAT_S
        while not self._stop.is_set() and time.monotonic() < until_s:
            for verdict in itertools.chain(self._gateway.verdicts(_LOOK_S), [None]):
                now_s = time.monotonic()
                if now_s > until_s:
                    return
                with self._lock:
                    if self._gateway.heartbeat_at > beat_at:
                        beat_at = self._gateway.heartbeat_at
                        until_s = beat_at + SILENCE_S
                        self._exchange.beat(self._gateway.heartbeat, beat_at)
                    if verdict is not None:
                        self._exchange.judged(verdict, now_s)

    def _ask(self, requests: Iterable[Request]) -> None:
        now_s = time.monotonic()
        for request in requests:
            if not self._asking.send(request):
                with self._lock:
                    self._exchange.replied(Reply(ok=False, id=request.id, error=_AWAY), now_s)

    def _take(self, replies: Iterable[Reply]) -> None:
        for reply in replies:
            with self._lock:
                self._exchange.replied(reply, time.monotonic())

    def _look(self) -> None:
        with self._lock:
            self._exchange.reaches(self._asking.is_connected)
            refusals = self._exchange.refusals()
        for what, why in refusals:
            say("modbus.refused", what=what, why=why)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise UsageError(f"--listen {text}: give HOST:PORT with a port up to 65535.")
    return host.strip("[]"), int(port)


def _recipes(text: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for each in text.split(",") if text else ():
        match = _RECIPE.match(each.strip())
        if match is None or int(match[1]) > 0xFFFF or int(match[1]) in found:
            raise UsageError(f"--recipes {text}: {each!r} is not NUMBER=NAME with a number of its own from 1 to 65535.")
        found[int(match[1])] = match[2]
    return found


def _line(station: Station, name: str) -> str:
    names = [line.name for line in station.settings.lines]
    if name not in names and (name or len(names) != 1):
        raise UsageError(f"--line {name}: this station has the lines {', '.join(names)}. Name one of them.")
    return name or names[0]
