"""Soak a whole station whose processes are killed, frozen, ended and asked at random, and count what became of every part.

The daemon draws parts, a collector stores them and a gateway listens, each a process or thread of its own, every link encrypted.

python tools/soak_station.py --minutes 20 --seed 1 --out docs/measurements/station-soak.md
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from types import TracebackType

import yaml

from edge_agent.plc.gateway import Gateway
from edge_agent.security import client_keys, make_keys
from edge_agent.settings import load_station

_ROOT = Path(__file__).parents[1]
_RECIPE = "demo-texture"
_STATION = "soak"  # its key has its name: in another nothing is stored
_STARTS_S, _ENDS_S = 30.0, 60.0
_BETWEEN_S = (2.0, 8.0)  # from one hurt to the next
_SETTLES_S = 6.0  # at the end: a daemon that was just started has parts, and the collector is met
DAEMON, COLLECTOR = "daemon", "collector"


class Plant:
    """A station and its collector in `folder`: settings, keys and processes. Leaving it kills what is still there."""

    def __init__(self, folder: Path, rate_hz: float) -> None:
        self._folder = folder
        self._endpoints = dict(zip(("verdicts", "control", "collector"), _free_endpoints(3), strict=True))
        self.settings = self._write_settings(rate_hz)
        self.store = folder / "collected"
        keys = ("--secret-key", folder / "keys/collector.key_secret", "--clients", folder / "stations")
        self._commands = {
            DAEMON: ("run", "--config", self.settings),
            COLLECTOR: ("collect", "--bind", self._endpoints["collector"], "--store", self.store, *keys),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.died: list[str] = []  # of themselves

    def __enter__(self) -> Plant:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _write_settings(self, rate_hz: float) -> Path:
        (self._folder / "keys").mkdir()
        for name, clients in ((_STATION, "stations"), ("collector", ""), ("gateway", "gateways")):
            public, _ = make_keys(self._folder / "keys", name)
            if clients:
                (self._folder / clients).mkdir()
                (self._folder / clients / public.name).write_bytes(public.read_bytes())
        own = {"secret_key": f"keys/{_STATION}.key_secret"}
        camera = {"name": "belt", "kind": "synthetic", "seed": 7, "rows": 512, "cols": 512, "rate_hz": rate_hz, "defect_share": 0.3}
        settings = {
            "station": _STATION,
            "recipes": str(_ROOT / "config" / "recipes"),
            "models": str(_ROOT / "models"),
            "cameras": [camera],
            "lines": [{"name": "line1", "camera": "belt", "recipe": _RECIPE}],
            "engine": {"kind": "cpu", "threads": 1},
            "plc": {
                "verdicts": self._endpoints["verdicts"],
                "control": self._endpoints["control"],
                "curve": {**own, "clients": "gateways"},
            },
            "uplink": {"collector": self._endpoints["collector"], "curve": {**own, "server_key": "keys/collector.key"}},
            "drain_s": 10,
        }
        file = self._folder / "station.yaml"
        file.write_text(yaml.safe_dump(settings))
        return file

    def start(self, name: str) -> None:
        with open(self._folder / f"{name}.log", "ab") as log:
            words = [sys.executable, "-m", "edge_agent", *map(str, self._commands[name])]
            self._processes[name] = subprocess.Popen(words, stdout=log, stderr=log)

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait()

    def end(self, name: str) -> None:
        """SIGTERM; anything but a good end is noted."""
        self.signal(name, signal.SIGTERM)
        if code := self._processes[name].wait(_ENDS_S):
            self.died.append(f"{name} ended with {code}")

    def mend(self) -> None:
        """Start again what ended of itself, which is noted."""
        for name, process in self._processes.items():
            if (code := process.poll()) is not None:
                self.died.append(f"{name} ended of itself with {code}")
                self.start(name)

    def ask(self, *words: str) -> None:
        """Whatever the answer: the daemon may be frozen, or not there yet."""
        command = [sys.executable, "-m", "edge_agent", "control", "--config", str(self.settings), *words]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_ENDS_S, check=False)

    def gateway(self) -> Gateway:
        keys = client_keys(self._folder / "keys/gateway.key_secret", self._folder / f"keys/{_STATION}.key")
        return Gateway(self._endpoints["verdicts"], self._endpoints["control"], keys=keys)


def _free_endpoints(count: int) -> list[str]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [f"tcp://127.0.0.1:{each.getsockname()[1]}" for each in found]


# --- what is done to it -----------------------------------------------------------------------------------------------
def _kill(name: str, most_s: float) -> Callable[[Plant, random.Random], None]:
    def hurt(plant: Plant, chance: random.Random) -> None:
        plant.kill(name)
        time.sleep(chance.uniform(0, most_s))
        plant.start(name)

    return hurt


def _freeze(name: str, most_s: float) -> Callable[[Plant, random.Random], None]:
    def hurt(plant: Plant, chance: random.Random) -> None:
        plant.signal(name, signal.SIGSTOP)
        time.sleep(chance.uniform(0.1, most_s))
        plant.signal(name, signal.SIGCONT)

    return hurt


def _kill_both(plant: Plant, chance: random.Random) -> None:
    for name in (DAEMON, COLLECTOR):
        plant.kill(name)
    time.sleep(chance.uniform(0, 2))
    for name in (DAEMON, COLLECTOR):
        plant.start(name)


def _end(plant: Plant, _chance: random.Random) -> None:
    plant.end(DAEMON)
    plant.start(DAEMON)


def _change_mode(plant: Plant, chance: random.Random) -> None:
    plant.ask("mode", chance.choice(("offline", "shadow")))
    time.sleep(chance.uniform(0, 2))
    plant.ask("mode", "online")


HURTS: dict[str, Callable[[Plant, random.Random], None]] = {
    "kill -9 of the daemon": _kill(DAEMON, 2),
    "kill -9 of the collector": _kill(COLLECTOR, 5),
    "kill -9 of both": _kill_both,
    "the daemon frozen for up to 2 s": _freeze(DAEMON, 2),
    "the collector frozen for up to 8 s": _freeze(COLLECTOR, 8),
    "SIGTERM, and started again": _end,
    "settings read again (SIGHUP)": lambda plant, _: plant.signal(DAEMON, signal.SIGHUP),
    "the recipe built anew": lambda plant, _: plant.ask("recipe", _RECIPE),
    "offline or shadow for a while": _change_mode,
}


@dataclass(slots=True)
class Record:
    """What a soak did and heard. `heard` is each part's outcome on the verdict link, by epoch and seq."""

    seconds: float = 0.0
    hurts: Counter[str] = field(default_factory=Counter)
    heard: dict[tuple[int, int], str] = field(default_factory=dict)
    died: list[str] = field(default_factory=list)


def soak(
    folder: Path,
    seconds: float,
    seed: int,
    rate_hz: float,
    tell: Callable[[str], None] = lambda _: None,
    between_s: tuple[float, float] = _BETWEEN_S,
) -> tuple[Record, Path]:
    """Hurt a station for so long, in every way before any comes again; let it drain; return what happened, and the collector's
    store."""
    record, is_over = Record(), threading.Event()
    with Plant(folder, rate_hz) as plant:
        load_station(plant.settings)  # one that cannot start is told here
        listener = threading.Thread(target=_listen, args=(plant, record, is_over))
        for name in (COLLECTOR, DAEMON):
            plant.start(name)
        listener.start()
        began = time.monotonic()
        try:
            _await_first(record)
            _hurt(plant, record, began + seconds, random.Random(seed), tell, between_s)
            plant.end(DAEMON)
        finally:
            is_over.set()
            listener.join()
        plant.end(COLLECTOR)
        record.seconds, record.died = time.monotonic() - began, plant.died
        return record, plant.store


def _hurt(
    plant: Plant, record: Record, until_s: float, chance: random.Random, tell: Callable[[str], None], between_s: tuple[float, float]
) -> None:
    left: list[str] = []
    while time.monotonic() < until_s:
        time.sleep(chance.uniform(*between_s))
        plant.mend()
        left = left or chance.sample(list(HURTS), len(HURTS))
        name = left.pop()
        tell(f"{len(record.heard)} parts: {name}")
        HURTS[name](plant, chance)
        record.hurts[name] += 1
    time.sleep(_SETTLES_S)
    plant.mend()


def _listen(plant: Plant, record: Record, is_over: threading.Event) -> None:
    with closing(plant.gateway()) as gateway:
        while not is_over.is_set():
            for verdict in gateway.verdicts(0.2):
                record.heard[verdict.epoch, verdict.seq] = verdict.outcome


def _await_first(record: Record) -> None:
    until = time.monotonic() + _STARTS_S
    while not record.heard and time.monotonic() < until:
        time.sleep(0.05)


# --- the account ------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Account:
    """What the collector has; `problems` is empty where every part is there once, as it was heard."""

    parts: int
    starts: int
    outcomes: dict[str, int]
    pictures: int
    lost: int
    problems: list[str]


def reconcile(record: Record, store: Path) -> Account:
    """Hold the collector's store against what was heard."""
    with closing(sqlite3.connect(store / "collector.db")) as database:
        ask = database.execute
        stored = {(epoch, seq): outcome for epoch, seq, outcome in ask("select epoch, seq, outcome from records")}
        gaps = ask("select epoch, max(seq) - count(*) from records group by epoch having max(seq) > count(*)").fetchall()
        lost = ask("select coalesce(sum(n), 0) from losses").fetchone()[0]
        strange = {table: ask(f"select count(*) from {table}").fetchone()[0] for table in ("contradictions", "refused")}
        pictures = ask("select path, sha256 from pictures").fetchall()
    torn = [path for path, sha256 in pictures if _sha256(store / "crops" / path) != sha256]
    unknown = [part for part in record.heard if part not in stored]
    other = [part for part, outcome in record.heard.items() if stored.get(part, outcome) != outcome]
    problems = [*record.died, *(f"{count} rows in {table}" for table, count in strange.items() if count)]
    problems += [f"epoch {epoch} lacks {count} parts" for epoch, count in gaps]
    problems += [f"part {part} was heard and not stored" for part in unknown]
    problems += [f"part {part} was heard as {record.heard[part]} and stored as {stored[part]}" for part in other]
    problems += [f"{path} is not the picture that was sent" for path in torn]
    if not record.heard:
        problems.append("no verdict was heard")
    outcomes = dict(sorted(Counter(stored.values()).items()))
    return Account(len(stored), len({epoch for epoch, _ in stored}), outcomes, len(pictures), lost, problems)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


def report(record: Record, account: Account, command: str) -> str:
    where = f"{os.cpu_count()} processors, Linux {platform.release()}, Python {platform.python_version()}"
    least, most = _BETWEEN_S
    lines = [
        "# A station whose processes are killed",
        "",
        f"`{command}`, measured on {date.today()} with {where}.",
        "",
        f"Daemon, collector, gateway for {record.seconds:.0f} s, keys on every link. Every {least:g} to {most:g} s one of these:",
        "",
        "| what was done | times |",
        "|---|---|",
        *(f"| {name} | {record.hurts[name]} |" for name in HURTS),
        "",
        "| what came of it | count |",
        "|---|---|",
        f"| starts of the daemon that saw parts | {account.starts} |",
        f"| parts stored | {account.parts} |",
        *(f"| of these {outcome} | {count} |" for outcome, count in account.outcomes.items()),
        f"| verdicts that the gateway heard, live or replayed | {len(record.heard)} |",
        f"| pictures stored, each with the SHA-256 that was sent | {account.pictures} |",
        f"| declared lost | {account.lost} |",
        f"| what does not reconcile | {len(account.problems)} |",
        "",
        "It reconciles where no number is missing within a start of the daemon, every verdict that was heard is stored with that",
        "outcome, no part was stored with two, no row was refused, every picture is whole, and neither process ended of itself.",
    ]
    if account.problems:
        lines += ["", "What does not reconcile:", "", *(f"- {problem}" for problem in account.problems[:50])]
    return "\n".join(lines) + "\n"


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="how long it is hurt")
    parser.add_argument("--seed", type=int, default=1, help="of what is done, and when")
    parser.add_argument("--rate", type=float, default=15.0, help="parts a second")
    parser.add_argument("--out", type=Path, help="write the report there")
    given = parser.parse_args(words)
    if not 0 < given.minutes < float("inf") or not 0 < given.rate <= 1000:
        parser.error("--minutes takes more than 0, --rate more than 0 and at most 1000")
    if given.out is not None and (given.out.is_dir() or not given.out.parent.is_dir()):
        parser.error(f"--out {given.out}: name a file, in a folder that is there")
    with tempfile.TemporaryDirectory() as folder:
        record, store = soak(Path(folder), 60 * given.minutes, given.seed, given.rate, partial(print, file=sys.stderr))
        account = reconcile(record, store)
    command = f"python tools/soak_station.py --minutes {given.minutes:g} --seed {given.seed} --rate {given.rate:g}"
    text = report(record, account, command)
    if given.out is not None:
        given.out.write_text(text)
    print(text)
    return 1 if account.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
