"""What may be asked on the control socket, and that rubbish harms nobody."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import msgspec
import pytest
from running import Station, conserved, hear, judge_all, wait_until

from edge_agent.wire import Reply, read_verdict_json

Start = Callable[..., Station]
OK = Reply(ok=True)


def test_missed_verdicts_are_replayed_as_they_were(station: Start) -> None:
    here = station()
    hearing = here.subscriber("verdict.json/")
    judge_all(here, 5)
    live = {read_verdict_json(body).seq: body for _, body in (hear(hearing) for _ in range(5))}
    reply = here.ask(op="replay", id="r", line="one", epoch=here.journal.epoch, seqs=(2, 4, 9))
    assert reply.ok
    assert [bytes(raw) for raw in reply.verdicts] == [live[2], live[4]]
    assert reply.missing == (9,)
    wrong = here.ask(op="replay", line="one", epoch=here.journal.epoch - 1, seqs=(2,))
    assert (wrong.verdicts, wrong.missing) == ((), (2,))


def test_a_replay_never_comes_over_the_verdict_topic(station: Start) -> None:
    here = station()
    hearing = here.subscriber("verdict.")
    judge_all(here, 1)
    hear(hearing)
    hear(hearing)
    here.ask(op="replay", line="one", epoch=here.journal.epoch, seqs=(1,))
    assert not hearing.poll(50)


def test_the_replay_buffer_keeps_the_last_and_no_more(station: Start) -> None:
    here = station(replay_parts=16)
    judge_all(here, 40)
    wait_until(lambda: here.line.published_through == 40)
    reply = here.ask(op="replay", line="one", epoch=here.journal.epoch, seqs=tuple(range(1, 41)))
    assert reply.missing == tuple(range(1, 25))
    assert [msgspec.json.decode(raw)["seq"] for raw in reply.verdicts] == list(range(25, 41))


@pytest.mark.parametrize("key", ["op", "line", "mode"])
def test_a_long_rubbish_of_a_name_fills_no_log_and_its_remedy_is_still_told(
    station: Start, key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = {"op": "mode", "line": "one", "mode": "online", key: "x" * 500_000}
    reply = station().ask(**asked)
    assert not reply.ok
    assert len(reply.error) < 3000
    assert reply.error.endswith({"op": "challenge", "line": "one of one", "mode": "shadow"}[key])
    assert len("".join(capfd.readouterr())) < 10_000


def test_an_acknowledgement_counts_once(station: Start) -> None:
    here = station()
    judge_all(here, 3)
    wait_until(lambda: here.publisher.published == 3)
    epoch = here.journal.epoch
    assert here.ask(op="ack", line="one", epoch=epoch, seqs=(1, 2)).status == {"new": 2}
    assert here.ask(op="ack", line="one", epoch=epoch, seqs=(2, 3, 4)).status == {"new": 1}
    assert here.ask(op="ack", line="one", epoch=epoch + 1, seqs=(1,)).status == {"new": 0}
    assert here.ask(op="status").status["acknowledged"] == 3


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"op": "dance"}, "one of ack, replay"),
        ({"op": ""}, "not known"),
        ({"op": "mode", "line": "one", "mode": "fast"}, "one of online"),
        ({"op": "mode", "line": "two", "mode": "online"}, "line 'two' is not known"),
        ({"op": "trigger", "line": "one"}, "no software trigger"),
        ({"op": "recipe", "line": "one", "name": "x"}, "does not change recipes"),
        ({"op": "replay", "line": "one", "seqs": tuple(range(5000))}, "at most 4096"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_an_error(station: Start, request_: dict[str, object], why: str) -> None:
    reply = station().ask(id="7", **request_)
    assert (reply.ok, reply.id) == (False, "7")
    assert why in reply.error


@pytest.mark.parametrize(
    "frames", [[b""], [b"{"], [b"\xff"], [b'{"op":"\\ud800"}'], [b'{"op":"\xff"}'], [b"[" * 100_000], [b"a", b"b", b"c"], [b"null"]]
)
def test_rubbish_is_answered_and_the_next_request_is_served(station: Start, frames: list[bytes]) -> None:
    here = station()
    client = here.client()
    client.send_multipart(frames)
    assert client.poll(5000)
    assert json.loads(client.recv())["ok"] is False
    assert here.ask(op="status").ok


@pytest.mark.parametrize("wrong", ['"epoch":"1"', '"epoch":1.5', '"seqs":["1"]', '"reset":1', '"part_id":7', '"op":null'])
def test_a_value_of_the_wrong_type_is_refused_with_the_requests_id(station: Start, wrong: str) -> None:
    here = station()
    client = here.client()
    client.send(f'{{"op":"ack","line":"one","id":"17",{wrong}}}'.encode())
    assert client.poll(5000)
    reply = json.loads(client.recv())
    assert (reply["ok"], reply.get("id"), "not a request" in reply["error"]) == (False, "17", True)


def test_a_request_beyond_the_limit_ends_its_sender_only(station: Start) -> None:
    here = station()
    client = here.client()
    client.send(b"x" * (2 << 20))
    assert not client.poll(100)
    assert here.ask(op="status").ok


def test_the_status_reconciles(station: Start) -> None:
    here = station(deadline_ms=40)
    here.subscriber("verdict.json/", "heartbeat/")
    judge_all(here, 3)
    here.publisher.trigger(here.line)
    wait_until(lambda: here.publisher.published == 4)
    reply = here.ask(op="status")
    assert reply.epoch == here.journal.epoch
    assert (reply.status["published"], reply.status["subscribers"], reply.status["dropped"]) == (4, 1, 0)
    assert reply.status["counters"]["one"] == {
        "triggers": 4,
        "outcomes": {"PASS": 3, "NG": 0, "FAULT": 1},
        "reasons": {"late": 1},
        "rules": {},
        "discarded": 0,
    }


def test_shadow_results_never_reach_the_verdict_topics(station: Start) -> None:
    here = station()
    hearing = here.subscriber("verdict.", "shadow.")
    assert here.ask(op="mode", line="one", mode="shadow").ok
    judge_all(here, 1)
    topics = {hear(hearing)[0] for _ in range(2)}
    assert topics == {"shadow.json/hall3/one", "shadow.bin/hall3/one"}
    assert here.ask(op="mode", line="one", mode="online").ok
    judge_all(here, 1)
    assert read_verdict_json(hear(hearing)[1]).shadow is False
    conserved(here)


def test_offline_is_said_in_the_heartbeat(station: Start) -> None:
    here = station()
    here.ask(op="mode", line="one", mode="offline")
    assert here.publisher.heartbeat()["lines"]["one"]["state"] == "Initialized"


def test_trigger_and_recipe_reach_whoever_serves_them(station: Start) -> None:
    here = station()
    asked: list[tuple[str, str]] = []
    later: list[threading.Thread] = []
    here.control.on_trigger = lambda line, part_id: asked.append((line, part_id))

    def change(line: str, name: str, answer: Callable[..., None]) -> None:
        later.append(threading.Thread(target=lambda: answer(msgspec.structs.replace(OK, error=f"{line} {name}"))))
        later[0].start()

    here.control.on_recipe = change
    assert here.ask(op="trigger", line="one", part_id="A").ok
    assert not here.ask(op="trigger", line="one", part_id="x" * 65).ok
    assert asked == [("one", "A")]
    reply = here.ask(op="recipe", id="9", line="one", name="lid")
    later[0].join()
    assert (reply.id, reply.error) == ("9", "one lid")
