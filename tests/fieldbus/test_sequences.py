"""Whatever comes, in whatever order: what the registers say stays true."""

from __future__ import annotations

import random
from typing import Any

from exchanges import Line
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.fieldbus.exchange import SILENCE_S
from edge_agent.fieldbus.registers import Command, Status
from edge_agent.wire import Reply

STEPS = st.one_of(
    st.tuples(st.just("wait"), st.floats(0.0, 0.4)),
    st.tuples(st.just("beat"), st.sampled_from([7, 7, 7, 8])),
    st.tuples(st.just("judged"), st.sampled_from(["PASS", "NG", "FAULT"])),
    st.tuples(st.just("write"), st.integers(0, 15)),
    st.tuples(st.just("gone"), st.none()),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_whatever_comes_pass_is_shown_only_of_a_live_result_that_passed(steps: list[tuple[str, Any]]) -> None:
    line, epoch, seq, heard_s = Line(), 7, 0, 100.0
    live: dict[int, str] = {}  # outcomes that came while heartbeats did, and since when nothing took them back
    shown: list[int] = []
    for what, value in steps:
        if what == "wait":
            line.now_s += value
        elif what == "beat":
            live = live if value == epoch and line.now_s - heard_s <= SILENCE_S else {}
            epoch, heard_s = value, line.now_s
            line.beat(epoch=value)
        elif what == "judged":
            seq += 1
            line.judged(seq, value, epoch=epoch)
            if line.now_s - heard_s <= SILENCE_S:
                live[seq] = value
        elif what == "write":
            line.write(Command(value), trigger_number=seq + 1)
        else:
            live = {}
            line.exchange.gone()
        if line.now_s - heard_s > SILENCE_S:
            live = {}
        outcome, status = line.read("outcome"), line.status
        assert bool(outcome) == (Status.RESULT_VALID in status)
        assert outcome in (0, 1, 2, 4)
        if outcome:
            assert live[line.read("sequence")] == {1: "PASS", 2: "NG", 4: "FAULT"}[outcome]
            shown.append(line.read("sequence"))
        assert shown == sorted(shown), "each at its turn, and none again"


class Station:
    """What a station owes, and what its PLC may take for true: kept beside an exchange, by other means than its own."""

    def __init__(self, choose: random.Random) -> None:
        self.choose = choose
        self.line = Line()
        self.epoch, self.seq, self.held = 7, 0, Command(0)
        self.open: list[str] = []  # parts without a verdict
        self.owed: list[str] = []  # requests without a reply
        self.named: dict[int, str] = {}  # which part has a number: that of its last trigger
        self.judged: dict[int, str] = {}  # the part of each seq
        self.asked = {"trigger": "", "recipe": ""}  # the last one of each
        self.done = {"trigger": False, "recipe": False}  # and whether it is

    def write(self) -> None:
        commands, number = Command(self.choose.randrange(16)), self.choose.randrange(3)
        risen, self.held = commands & ~self.held, commands
        self.line.write(commands, trigger_number=number, recipe_number=self.choose.choice([3, 4, 5]))
        if risen & Command.RECIPE:
            self.asked["recipe"], self.done["recipe"] = "", False
        if risen & Command.TRIGGER:
            self.asked["trigger"], self.done["trigger"] = "", False
            self.named.pop(number, None)
        for request in self.line.asked:
            if request.op == "ack":
                continue
            self.asked[request.op] = request.id
            self.owed.append(request.id)
            if request.op == "trigger":
                self.named[number] = request.part_id
                self.open.append(request.part_id)

    def judge(self) -> None:
        self.seq += 1
        part_id = self.open.pop(self.choose.randrange(len(self.open))) if self.open else str(self.seq)
        self.judged[self.seq] = part_id
        self.done["trigger"] |= f"trigger/{part_id}" == self.asked["trigger"]
        self.line.judged(self.seq, part_id=part_id, epoch=self.epoch, shadow=self.choose.random() < 0.3)

    def reply(self) -> None:
        if not self.owed:
            return
        request, is_taken = self.owed.pop(self.choose.randrange(len(self.owed))), self.choose.random() < 0.7
        op, _, part_id = request.partition("/")
        if part_id in self.open and not is_taken:
            self.open.remove(part_id)
        self.done[op] |= request == self.asked[op] and is_taken
        self.line.exchange.replied(Reply(ok=is_taken, id=request, error="no"), self.line.now_s)

    def begin_anew(self) -> None:
        self.epoch += 1
        self.open.clear()
        self.line.beat(epoch=self.epoch)

    def gone(self) -> None:
        self.line.exchange.gone()
        self.named.clear()
        self.held = Command(0)

    def wait(self) -> None:
        self.line.now_s += self.choose.choice([0.04, 0.04, 0.2, 0.3])
        self.line.beat(epoch=self.epoch)

    def check(self) -> None:
        number, status = self.line.read("trigger_number"), self.line.status
        assert not number or self.judged[self.line.read("sequence")] == self.named.get(number)
        assert self.open or Status.BUSY not in status
        assert Status.TRIGGER_ACK not in status or (self.held & Command.TRIGGER and self.done["trigger"])
        assert Status.RECIPE_ACK not in status or (self.held & Command.RECIPE and self.done["recipe"])


def test_whatever_comes_a_number_is_its_last_trigger_s_and_an_answer_is_for_what_is_held_up() -> None:
    for seed in range(1000):
        choose = random.Random(seed)
        station = Station(choose)
        for _ in range(50):
            step = choose.choice(["write", "write", "write", "judge", "reply", "wait", "begin_anew", "gone"])
            getattr(station, step)()
            station.check()
