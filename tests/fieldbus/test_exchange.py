"""The handshake with a PLC: what its registers say, and that they never say PASS without a result that counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exchanges import Line

from edge_agent.errors import REASON_CODES
from edge_agent.fieldbus.exchange import SILENCE_S
from edge_agent.fieldbus.registers import (
    COMMAND_MEANINGS,
    COMMANDS,
    COMMANDS_AT,
    RESULT,
    SIZE,
    STATUS_MEANINGS,
    Command,
    Status,
    decode,
    encode,
)
from edge_agent.records import Blob, Finding
from edge_agent.wire import Reply


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_result_stands_until_it_is_acknowledged_and_the_next_waits(line: Line) -> None:
    line.judged(1, "NG", findings=(Finding(rule="blob_count", value=2.0, limit=0.0, margin=-2.0, ok=False),))
    line.judged(2)
    assert (line.read("outcome"), line.read("sequence"), line.read("rules_broken"), line.read("results")) == (2, 1, 1, 1)
    assert (line.read("latency_ms"), line.read("recipe_number")) == (13, 3)
    assert line.write(Command.RESULT_ACK) == [("ack", "")]
    assert (line.asked[0].epoch, line.asked[0].seqs) == (7, (1,))
    assert (line.read("outcome"), Status.RESULT_VALID in line.status) == (0, False), "the bit has to fall first"
    assert line.write() == []
    assert (line.read("outcome"), line.read("sequence"), line.read("results")) == (1, 2, 2)


def test_a_fault_has_its_reason(line: Line) -> None:
    line.judged(1, "FAULT")
    assert (line.read("outcome"), line.read("reason")) == (4, REASON_CODES["late"])


def test_a_trigger_is_taken_and_its_part_bears_the_number(line: Line) -> None:
    assert line.write(Command.TRIGGER, trigger_number=70_001) == [("trigger", "70001.run.1")]
    assert Status.BUSY in line.status
    assert Status.TRIGGER_ACK not in line.status
    line.exchange.replied(Reply(ok=True, id="trigger/70001.run.1"), line.now_s)
    assert Status.TRIGGER_ACK in line.status
    line.write()
    assert Status.TRIGGER_ACK not in line.status
    line.judged(70_001, part_id="70001")
    assert line.read("trigger_number") == 0, "a part that nobody named is called by its seq"
    line.judged(70_002, part_id="70001.run.1")
    line.write(Command.RESULT_ACK)
    line.write()
    assert (line.read("trigger_number"), Status.BUSY in line.status) == (70_001, False)


def test_a_verdict_that_is_sooner_than_the_answer_takes_the_trigger(line: Line) -> None:
    line.write(Command.TRIGGER, trigger_number=9)
    line.judged(1, part_id="9.run.1")
    assert line.status & (Status.TRIGGER_ACK | Status.RESULT_VALID) == Status.TRIGGER_ACK | Status.RESULT_VALID
    line.exchange.replied(Reply(ok=True, id="trigger/9.run.1"), line.now_s)
    assert line.read("missed_triggers") == 0


@pytest.mark.parametrize("why", ["refused", "unanswered", "not ready", "no number", "under way"])
def test_a_trigger_that_is_not_taken_is_counted(line: Line, why: str) -> None:
    if why == "not ready":
        line.beat(state="Error")
    if why == "under way":
        line.write(Command.TRIGGER, trigger_number=8)
        line.write()
    asked = line.write(Command.TRIGGER, trigger_number=0 if why == "no number" else 8)
    assert bool(asked) == (why in ("refused", "unanswered"))
    if why == "refused":
        line.exchange.replied(Reply(ok=False, id="trigger/8.run.1", error="no"), line.now_s)
    if why == "unanswered":
        for _ in range(11):
            line.now_s += 0.1
            line.beat()
    assert Status.COMMAND_FAILED in line.status
    assert line.read("missed_triggers") == 1
    words = {"refused": "no", "unanswered": "within 1 s", "no number": "number is 0", "under way": "the number 8 is under way"}
    [(what, told)] = line.exchange.refusals()
    assert what == ("trigger/8.run.1" if asked else "trigger/0" if why == "no number" else "trigger/8")
    assert words.get(why, why) in told
    assert line.exchange.refusals() == []
    assert (Status.BUSY in line.status) == (why == "under way")
    line.write()
    line.write(Command.CLEAR)
    assert (Status.COMMAND_FAILED in line.status, line.read("missed_triggers")) == (False, 1)


def test_a_number_that_comes_again_is_not_the_part_that_had_it(line: Line) -> None:
    line.write(Command.TRIGGER, trigger_number=8)
    line.write()
    for _ in range(11):
        line.now_s += 0.1
        line.beat()
    assert line.read("missed_triggers") == 1, "the station took a second to answer"
    assert line.write(Command.TRIGGER, trigger_number=8) == [("trigger", "8.run.2")]
    line.judged(1, part_id="8.run.1")
    assert (line.read("trigger_number"), Status.BUSY in line.status) == (0, True)
    line.judged(2, part_id="8.run.2")
    line.write(Command.RESULT_ACK)
    line.write()
    assert (line.read("trigger_number"), line.read("sequence")) == (8, 2)


def test_a_result_of_a_number_that_comes_again_is_not_shown_for_it(line: Line) -> None:
    """A PLC that counts from 1 after each of its starts, while its old connection, or another client's, still stands."""
    line.write(Command.TRIGGER, trigger_number=1)
    line.judged(1, part_id="1.run.1")
    line.write()
    line.write(Command.TRIGGER, trigger_number=2)
    line.judged(2, "NG", part_id="2.run.2")
    line.write()
    assert line.write(Command.TRIGGER, trigger_number=1) == [("trigger", "1.run.3")]
    assert (line.read("trigger_number"), line.read("sequence"), line.read("lost_results")) == (2, 2, 1)
    line.write()
    assert line.write(Command.TRIGGER, trigger_number=2) == [("trigger", "2.run.4")]
    assert (line.read("outcome"), line.read("lost_results")) == (0, 2)
    line.judged(4, part_id="2.run.4")
    assert (line.read("trigger_number"), line.read("sequence")) == (2, 4)


def test_of_two_parts_of_one_number_neither_is_the_one(line: Line) -> None:
    line.write(Command.TRIGGER, trigger_number=1)
    line.write()
    assert line.write(Command.TRIGGER, trigger_number=1) == []
    line.judged(1, part_id="1.run.1")
    assert (line.read("outcome"), line.read("trigger_number"), Status.COMMAND_FAILED in line.status) == (1, 0, True)
    assert Status.BUSY not in line.status


def test_a_station_that_fell_silent_ends_every_trigger(line: Line) -> None:
    line.write(Command.TRIGGER, trigger_number=1)
    line.exchange.replied(Reply(ok=True, id="trigger/1.run.1"), line.now_s)
    line.write()
    line.write(Command.TRIGGER, trigger_number=2)
    line.beat(epoch=8)
    assert line.status & (Status.COMMAND_FAILED | Status.RESULTS_LOST) == Status.COMMAND_FAILED | Status.RESULTS_LOST
    assert not line.status & (Status.BUSY | Status.TRIGGER_ACK)
    assert (line.read("missed_triggers"), line.read("lost_results")) == (1, 1)


def test_the_answer_for_an_earlier_trigger_takes_none_that_rose_since(line: Line) -> None:
    line.write(Command.TRIGGER, trigger_number=1)
    line.write()
    line.write(Command.TRIGGER, trigger_number=2)
    line.exchange.replied(Reply(ok=True, id="trigger/1.run.1"), line.now_s)
    assert Status.TRIGGER_ACK not in line.status
    line.exchange.replied(Reply(ok=True, id="trigger/2.run.2"), line.now_s)
    assert Status.TRIGGER_ACK in line.status


def test_a_recipe_is_asked_for_by_its_number(line: Line) -> None:
    assert line.write(Command.RECIPE, recipe_number=4) == [("recipe", "lid")]
    assert Status.RECIPE_ACK not in line.status
    line.exchange.replied(Reply(ok=True, id=line.asked[0].id), line.now_s)
    assert Status.RECIPE_ACK in line.status
    line.write()
    assert Status.RECIPE_ACK not in line.status
    assert line.write(Command.RECIPE, recipe_number=5) == []
    assert Status.COMMAND_FAILED in line.status
    assert line.exchange.refusals() == [("recipe/5", "no recipe has this number; --recipes gave 3, 4")]


def test_the_answer_for_another_recipe_is_not_that_for_the_last_one(line: Line) -> None:
    line.write(Command.RECIPE, recipe_number=3)
    first = line.asked[0].id
    line.write()
    line.write(Command.RECIPE, recipe_number=4)
    line.exchange.replied(Reply(ok=True, id=first), line.now_s)
    assert not line.status & (Status.RECIPE_ACK | Status.COMMAND_FAILED)
    line.exchange.replied(Reply(ok=True, id=line.asked[0].id), line.now_s)
    assert Status.RECIPE_ACK in line.status


def test_the_answer_for_an_earlier_recipe_is_not_that_for_a_number_without_one(line: Line) -> None:
    line.write(Command.RECIPE, recipe_number=3)
    first = line.asked[0].id
    line.write()
    line.write(Command.RECIPE, recipe_number=5)
    line.exchange.replied(Reply(ok=True, id=first), line.now_s)
    assert line.status & (Status.RECIPE_ACK | Status.COMMAND_FAILED) == Status.COMMAND_FAILED


def test_a_recipe_whose_answer_cannot_come_has_failed(line: Line) -> None:
    line.write(Command.RECIPE, recipe_number=4)
    line.exchange.reaches(True)
    assert Status.COMMAND_FAILED not in line.status, "it may take minutes"
    line.exchange.reaches(False)
    assert line.status & (Status.COMMAND_FAILED | Status.READY) == Status.COMMAND_FAILED
    line.exchange.reaches(True)
    line.exchange.replied(Reply(ok=True, id=line.asked[0].id), line.now_s)
    assert Status.RECIPE_ACK not in line.status


def test_a_command_counts_once_while_its_bit_is_held(line: Line) -> None:
    assert line.write(Command.TRIGGER, trigger_number=1)
    assert not line.write(Command.TRIGGER, trigger_number=2)


def test_silence_takes_everything_back(line: Line) -> None:
    line.judged(1)
    line.judged(2)
    line.now_s += SILENCE_S + 0.01
    assert (line.read("status"), line.read("outcome"), line.read("lost_results")) == (0, 0, 2)
    line.judged(3)
    line.beat()
    assert (line.read("outcome"), line.status) == (0, Status.HEARD | Status.ONLINE | Status.READY | Status.RESULTS_LOST)


@pytest.mark.parametrize("changes", [{"line": "other"}, {"shadow": True}, {"epoch": 6}])
def test_what_does_not_count_is_not_shown(line: Line, changes: dict[str, Any]) -> None:
    line.judged(1, **changes)
    assert line.read("outcome") == 0


def test_a_part_that_came_out_as_a_master_part_is_under_way_no_more(line: Line) -> None:
    line.write(Command.TRIGGER, trigger_number=8)
    line.judged(1, part_id="8.run.1", shadow=True, challenge="scratched")
    assert line.status & (Status.BUSY | Status.TRIGGER_ACK | Status.RESULT_VALID) == Status.TRIGGER_ACK
    line.write()
    assert line.write(Command.TRIGGER, trigger_number=8) == [("trigger", "8.run.2")]
    line.judged(2, part_id="8.run.2")
    assert (line.read("trigger_number"), line.read("sequence"), line.read("lost_results")) == (8, 2, 0)


def test_a_station_that_began_anew_takes_the_results_of_before_back(line: Line) -> None:
    line.judged(1)
    line.beat(epoch=8)
    assert (line.read("outcome"), line.read("lost_results")) == (0, 1)


def test_a_plc_that_goes_leaves_nothing_to_the_next(line: Line) -> None:
    line.judged(1)
    line.write(Command.TRIGGER, trigger_number=1)
    line.exchange.gone()
    assert (line.read("outcome"), line.read("lost_results")) == (0, 1)
    assert line.write(Command.TRIGGER, trigger_number=2), "its bit rises anew"


def test_of_results_that_nobody_reads_the_oldest_are_lost(line: Line) -> None:
    for seq in range(1, 13):
        line.judged(seq)
    assert (line.read("sequence"), line.read("lost_results"), Status.RESULTS_LOST in line.status) == (1, 3, True)
    line.write(Command.RESULT_ACK)
    line.write()
    assert line.read("sequence") == 5


def test_numbers_and_texts_are_laid_out_as_the_map_says() -> None:
    image = encode({"sequence": 0x0001_0002, "results": 65_537}, "A-ä")
    assert (image[6:8], image[48], len(image)) == ([1, 2], 1, SIZE)
    assert image[16:19] == [0x412D, 0xC3A4, 0]
    assert encode({"sequence": 0x0001_0002}, low_word_first=True)[6:8] == [2, 1]
    assert decode([1, 2, 3, 4]) == {"commands": 1, "trigger_number": 2 << 16 | 3, "recipe_number": 4}
    assert decode([1, 2, 3, 4], low_word_first=True)["trigger_number"] == 3 << 16 | 2
    taken = [address for each in RESULT for address in range(each.address, each.address + each.words)]
    assert len(taken) == len(set(taken))
    assert max(taken) < COMMANDS_AT


def test_a_blob_is_counted(line: Line) -> None:
    sizes = dict.fromkeys(("x", "y", "width", "height", "centroid_x", "centroid_y", "peak", "mean"), 1.0)
    blob = Blob(class_name="defect", area_px=9.0, **sizes)
    line.judged(1, "NG", blobs=(blob, blob))
    assert line.read("blobs") == 2


def test_the_docs_have_the_map_as_it_is() -> None:
    told = (Path(__file__).parents[2] / "docs" / "modbus.md").read_text().splitlines()
    rows = [f"| {each.address} | {each.words} | `{each.name}` | {each.meaning} |" for each in (*RESULT, *COMMANDS)]
    bits = [
        f"| {bit.bit_length() - 1} | `{bit.name}` | {meaning} |"
        for bit, meaning in (*STATUS_MEANINGS.items(), *COMMAND_MEANINGS.items())
    ]
    heads = ("| address |", "| bit |", "|---|")
    assert [line for line in told if line.startswith("|") and not line.startswith(heads)] == [
        *rows[: len(RESULT)],
        *bits[: len(STATUS_MEANINGS)],
        *rows[len(RESULT) :],
        *bits[len(STATUS_MEANINGS) :],
    ]
    assert set(STATUS_MEANINGS) == set(Status)
    assert set(COMMAND_MEANINGS) == set(Command)
