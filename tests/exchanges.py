"""An exchange between a line and its PLC, whose clock is the test's, and registers by their names."""

from __future__ import annotations

from typing import Any

from edge_agent.fieldbus.exchange import Exchange
from edge_agent.fieldbus.registers import RESULT, Command, Status
from edge_agent.wire import Verdict

NOTHING = Command(0)
ADDRESSES = {register.name: register.address for register in RESULT}


def beat(epoch: int = 7, mode: str = "online", state: str = "Ready") -> dict[str, Any]:
    return {"epoch": epoch, "lines": {"line": {"state": state, "mode": mode, "seq": 0}}}


def verdict(seq: int, outcome: str = "PASS", part_id: str = "", **changes: Any) -> Verdict:
    told = {
        "station": "s",
        "line": "line",
        "epoch": 7,
        "seq": seq,
        "part_id": part_id or f"part-{seq}",
        "outcome": outcome,
        "reasons": ("late",) if outcome == "FAULT" else ("blob_count",) if outcome == "NG" else (),
        "trigger_time_us": 1,
        "latency_ms": 12.6,
        "recipe": "cap",
        "recipe_hash": "ab",
        "model_hash": "cd",
        "engine_id": "e",
        "blobs": (),
        "findings": (),
    }
    return Verdict(**(told | changes))


class Line:
    """An exchange, and its registers by name; time is what a test says."""

    def __init__(self, **words: Any) -> None:
        self.now_s = 100.0
        self.exchange = Exchange("line", {3: "cap", 4: "lid"}, "run", **words)
        self.written = {"commands": 0, "trigger_number": 0, "recipe_number": 0}
        self.beat()

    def beat(self, **words: Any) -> None:
        self.exchange.beat(beat(**words), self.now_s)

    def judged(self, *args: Any, **words: Any) -> None:
        self.exchange.judged(verdict(*args, **words), self.now_s)

    def write(self, commands: Command = NOTHING, **values: int) -> list[tuple[str, str]]:
        self.written |= {"commands": int(commands), **values}
        self.asked = self.exchange.written(self.written, self.now_s)
        return [(request.op, request.part_id or request.name) for request in self.asked]

    def read(self, name: str) -> int:
        words = self.exchange.registers(self.now_s)
        at = ADDRESSES[name]
        return words[at] << 16 | words[at + 1] if name in ("trigger_number", "sequence") else words[at]

    @property
    def status(self) -> Status:
        return Status(self.read("status"))
