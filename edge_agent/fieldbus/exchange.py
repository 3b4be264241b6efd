"""The handshake between one line and one PLC, as a pure state: heartbeats, verdicts and written commands in, registers out.

PASS is shown only of a result that came live, in this epoch, while heartbeats come, and until the PLC has acknowledged it.
Silence, a station that began anew and a PLC that went away take every result back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from edge_agent.errors import REASON_CODES
from edge_agent.fieldbus.registers import Command, Status, encode
from edge_agent.records import FAULT, NG, PASS
from edge_agent.wire import Reply, Request, Verdict

SILENCE_S = 0.25
_WAITING = 8  # results that no PLC has acknowledged yet; a line that runs further ahead of it is not being read
_UNTOLD = 100  # reasons of refusals that nobody took to tell them
_REPLY_S = 1.0  # how long a trigger may wait for the station's answer
_OUTCOMES = {PASS: 1, NG: 2, FAULT: 4}
_MOST_MS = 0xFFFF


class Exchange:
    """One line's registers. Whoever calls holds a lock; `now_s` is monotonic. `recipes` are by the PLC's numbers of them.

    Of the parts that the PLC triggers `run`, another one at each start, and a count stand in the id beside the number: no part that
    the station names by its `seq`, and no earlier one of the same number, can be taken for the one that is under way."""

    def __init__(self, line: str, recipes: Mapping[int, str], run: str, *, low_word_first: bool = False) -> None:
        self._line = line
        self._run = run
        self._triggers = self._changes = 0
        self._recipes = dict(recipes)
        self._numbers = {name: number for number, name in recipes.items()}
        self._low_word_first = low_word_first
        self._state: dict[str, Any] = {}
        self._epoch = 0
        self._heard_s = float("-inf")
        self._can_ask = True  # somebody takes what is to be asked of the station; whoever sends it knows
        self._shown: Verdict | None = None
        self._shown_number = 0
        self._waiting: deque[tuple[Verdict, int]] = deque()
        self._triggered = ""  # the part id of the trigger that rose last
        self._under_way: dict[str, int] = {}  # numbers of triggers without a result, by the part id
        self._asked: dict[str, float] = {}  # those that the station has not answered, and until when it may
        self._changing = ""  # the id of the change of recipe that it has not answered
        self._held = Command(0)  # the bits that the PLC holds up
        self._flags = Status(0)
        self._refusals: deque[tuple[str, str]] = deque(maxlen=_UNTOLD)
        self._counts = dict.fromkeys(("heartbeat", "missed_triggers", "lost_results", "results"), 0)

    # --- from the station -----------------------------------------------------------------------------------------
    def beat(self, heartbeat: Mapping[str, Any], now_s: float) -> None:
        """Take a heartbeat. One of another epoch is of a station that began anew: nothing from before counts."""
        self._look(now_s)
        epoch = int(heartbeat.get("epoch", 0))
        if epoch != self._epoch:
            self._epoch = epoch
            self._take_back()
        self._state = heartbeat.get("lines", {}).get(self._line, {})
        self._heard_s = now_s
        self._counts["heartbeat"] += 1

    def judged(self, verdict: Verdict, now_s: float) -> None:
        """Take a live verdict: not of another line or epoch, and not while nothing vouches for deadlines. A shadow result ends
        its part, and is not shown."""
        self._look(now_s)
        if verdict.line != self._line or verdict.epoch != self._epoch or not self._is_heard(now_s):
            return
        number = self._under_way.pop(verdict.part_id, 0)
        if verdict.part_id in self._asked:  # the answer to the trigger is on its way, and says no more
            self._take_trigger(verdict.part_id)
        if verdict.shadow:
            return
        if len(self._waiting) == _WAITING:
            self._waiting.popleft()
            self._lose(1)
        self._waiting.append((verdict, number))
        self._show()

    def replied(self, reply: Reply, now_s: float) -> None:
        """Take the station's answer to a request of ours."""
        self._look(now_s)
        what, _, part_id = reply.id.partition("/")
        if reply.id == self._changing:  # of an earlier one the PLC no longer waits for the answer
            self._changing = ""
            self._flags |= Status.RECIPE_ACK if reply.ok and self._held & Command.RECIPE else Status(0)
            if not reply.ok:
                self._fail(reply.id, reply.error)
        elif what == "trigger" and part_id in self._asked:
            if reply.ok:
                self._take_trigger(part_id)
            else:
                self._miss(part_id, reply.error)

    def reaches(self, can_ask: bool) -> None:
        """Take whether the station can be asked. Where it cannot, it has forgotten who waits for a recipe: no answer will come."""
        self._can_ask = can_ask
        if self._changing and not can_ask:
            self._fail(self._changing, "the station went away before it answered")
            self._changing = ""

    # --- from the PLC ---------------------------------------------------------------------------------------------
    def written(self, values: Mapping[str, int], now_s: float) -> list[Request]:
        """Take the command registers as they are now; return what to ask of the station."""
        self._look(now_s)
        held = Command(values["commands"] & sum(Command))
        risen, self._held = held & ~self._held, held
        if not held & Command.TRIGGER:
            self._flags &= ~Status.TRIGGER_ACK
        if not held & Command.RECIPE:
            self._flags &= ~Status.RECIPE_ACK
        if risen & Command.CLEAR:
            self._flags &= ~(Status.COMMAND_FAILED | Status.RESULTS_LOST)
        asked = self._acknowledge() if risen & Command.RESULT_ACK else []
        self._show()
        if risen & Command.RECIPE:
            asked += self._change_recipe(values["recipe_number"])
        if risen & Command.TRIGGER:
            asked += self._trigger(values["trigger_number"], now_s)
        return asked

    def gone(self) -> None:
        """The PLC is gone: what it held up falls, and nothing that it did not read is shown to the next one."""
        self._held = Command(0)
        self._flags &= ~(Status.TRIGGER_ACK | Status.RECIPE_ACK)
        self._changing = ""
        self._under_way.clear()
        self._asked.clear()
        self._take_back()

    def registers(self, now_s: float) -> list[int]:
        """What the PLC reads now."""
        self._look(now_s)
        values = {**self._counts, "status": int(self._status(now_s))}
        shown = self._shown
        if shown is None:
            return encode(values, low_word_first=self._low_word_first)
        values |= {
            "outcome": _OUTCOMES[shown.outcome],
            "reason": REASON_CODES.get(shown.reasons[0], 0) if shown.outcome == FAULT and shown.reasons else 0,
            "trigger_number": self._shown_number,
            "sequence": shown.seq,
            "blobs": len(shown.blobs),
            "rules_broken": sum(not finding.ok for finding in shown.findings),
            "latency_ms": min(_MOST_MS, round(shown.latency_ms)),
            "recipe_number": self._numbers.get(shown.recipe, 0),
        }
        return encode(values, shown.part_id, low_word_first=self._low_word_first)

    def refusals(self) -> list[tuple[str, str]]:
        """What was refused since, and why; for the log."""
        found = list(self._refusals)
        self._refusals.clear()
        return found

    # --- within ---------------------------------------------------------------------------------------------------
    def _is_heard(self, now_s: float) -> bool:
        return now_s - self._heard_s <= SILENCE_S

    def _status(self, now_s: float) -> Status:
        if not self._is_heard(now_s):
            return Status(0)
        is_online = self._state.get("mode") == "online"
        status = Status.HEARD | self._flags
        status |= Status.ONLINE if is_online else Status(0)
        status |= Status.READY if self._is_ready(now_s) else Status(0)
        status |= Status.BUSY if self._under_way else Status(0)
        return status | (Status.RESULT_VALID if self._shown is not None else Status(0))

    def _is_ready(self, now_s: float) -> bool:
        is_line = self._state.get("mode") == "online" and self._state.get("state") == "Ready"
        return is_line and self._can_ask and self._is_heard(now_s)

    def _look(self, now_s: float) -> None:
        """What time alone brings: silence takes results back, and a trigger that nobody answered was missed."""
        if not self._is_heard(now_s):
            self._take_back()
        for part_id in [part_id for part_id, until_s in self._asked.items() if now_s > until_s]:
            self._miss(part_id, f"the station did not answer within {_REPLY_S:g} s")

    def _take_back(self) -> None:
        for part_id in list(self._asked):
            self._miss(part_id, "the station fell silent, or began anew, before it answered")
        unread = len(self._waiting) + (self._shown is not None) + len(self._under_way)
        self._shown, self._shown_number = None, 0
        self._waiting.clear()
        self._under_way.clear()
        self._lose(unread)

    def _lose(self, results: int) -> None:
        self._counts["lost_results"] += results
        self._flags |= Status.RESULTS_LOST if results else Status(0)

    def _show(self) -> None:
        """The next result, once the last was acknowledged and that bit has fallen."""
        if self._shown is None and self._waiting and not self._held & Command.RESULT_ACK:
            self._shown, self._shown_number = self._waiting.popleft()
            self._counts["results"] += 1

    def _acknowledge(self) -> list[Request]:
        if self._shown is None:
            return []
        done, self._shown = self._shown, None
        return [Request(op="ack", id="ack", line=done.line, epoch=done.epoch, seqs=(done.seq,))]

    def _trigger(self, number: int, now_s: float) -> list[Request]:
        self._triggered = ""
        is_under_way = self._disown(number) if number else False
        if not number or is_under_way or not self._is_ready(now_s):
            taken = f"a part with the number {number} is under way; give each another one"
            why = "its number is 0; give 1 to 4294967295" if not number else taken if is_under_way else "the line is not ready"
            self._miss(str(number), why)
            return []
        self._triggers += 1
        part_id = f"{number}.{self._run}.{self._triggers}"
        self._triggered = part_id
        self._under_way[part_id], self._asked[part_id] = number, now_s + _REPLY_S
        return [Request(op="trigger", id=f"trigger/{part_id}", line=self._line, part_id=part_id)]

    def _disown(self, number: int) -> bool:
        """No earlier part has this number any more, as of a PLC that counts from 1 again: an unread result of one is lost, and
        that of one under way will have no number. True where one is under way."""
        left = [(verdict, its) for verdict, its in self._waiting if its != number]
        self._lose(len(self._waiting) - len(left))
        self._waiting = deque(left)
        if self._shown is not None and self._shown_number == number:
            self._shown = None
            self._lose(1)
            self._show()
        is_under_way = number in self._under_way.values()
        self._under_way = {part_id: 0 if its == number else its for part_id, its in self._under_way.items()}
        return is_under_way

    def _take_trigger(self, part_id: str) -> None:
        del self._asked[part_id]
        if self._held & Command.TRIGGER and part_id == self._triggered:
            self._flags |= Status.TRIGGER_ACK

    def _miss(self, part_id: str, why: str) -> None:
        self._under_way.pop(part_id, None)
        self._asked.pop(part_id, None)
        self._counts["missed_triggers"] += 1
        self._fail(f"trigger/{part_id}", why)

    def _change_recipe(self, number: int) -> list[Request]:
        self._changing = ""
        name = self._recipes.get(number)
        if name is None:
            numbers = ", ".join(map(str, self._recipes)) or "none"
            self._fail(f"recipe/{number}", f"no recipe has this number; --recipes gave {numbers}")
            return []
        self._changes += 1
        self._changing = f"recipe/{number}/{self._changes}"
        return [Request(op="recipe", id=self._changing, line=self._line, name=name)]

    def _fail(self, what: str, why: str) -> None:
        self._flags |= Status.COMMAND_FAILED
        self._refusals.append((what, why))
