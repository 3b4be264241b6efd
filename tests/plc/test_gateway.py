"""The gateway hears every verdict once: live, replayed after a gap, or from before it came; it acknowledges what it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import zmq
from running import Station, wait_until

from edge_agent.errors import DeliveryError
from edge_agent.plc.gateway import Gateway, Seen, ask
from edge_agent.records import NG, PASS, Judgement
from edge_agent.wire import Request, Verdict

Start = Callable[..., Station]


def gateway_of(station: Station, control: bool = True) -> Gateway:
    sockets = station.publisher.sockets
    return Gateway(sockets.verdicts_endpoint, sockets.control_endpoint if control else None)


def judge(station: Station, n: int, outcome: str = PASS) -> None:
    for _ in range(n):
        station.publisher.judged(station.publisher.trigger(station.line), Judgement(outcome))


def listen(gateway: Gateway, wanted: int, timeout_s: float = 8) -> list[Verdict]:
    heard = []
    for verdict in gateway.verdicts(timeout_s):
        heard.append(verdict)
        if len(heard) == wanted:
            break
    return heard


@pytest.fixture
def here(station: Start) -> Iterator[Station]:
    return station()


def test_live_verdicts_come_in_order_and_are_acknowledged(here: Station) -> None:
    with gateway_of(here) as gateway:
        wait_until(lambda: here.publisher.sockets.subscribers == 1)
        judge(here, 20, NG)
        heard = listen(gateway, 20)
        assert [(verdict.seq, verdict.outcome) for verdict in heard] == [(seq, NG) for seq in range(1, 21)]
        assert list(gateway.verdicts(0.2)) == []
        wait_until(lambda: here.publisher.replay.acknowledged == 20)
        assert gateway.replayed == 0
        assert gateway.heartbeat["station"] == "hall3"


def test_a_late_joiner_gets_what_it_missed_by_replay(here: Station) -> None:
    judge(here, 30)
    wait_until(lambda: here.publisher.published == 30)
    with gateway_of(here) as gateway:
        assert sorted(verdict.seq for verdict in listen(gateway, 30)) == list(range(1, 31))
        assert gateway.replayed == 30
        list(gateway.verdicts(0.1))
        wait_until(lambda: here.publisher.replay.acknowledged == 30)


def test_what_is_no_longer_kept_is_given_up_once(station: Start) -> None:
    here = station(replay_parts=16)
    judge(here, 50)
    wait_until(lambda: here.publisher.published == 50)
    with gateway_of(here) as gateway:
        assert sorted(verdict.seq for verdict in listen(gateway, 16)) == list(range(35, 51))
        for _ in gateway.verdicts(0.5):
            raise AssertionError("heard twice")
        assert gateway.given_up == {("one", here.journal.epoch, seq) for seq in range(1, 35)}


def test_a_gap_is_asked_for_although_later_parts_have_come(here: Station) -> None:
    """As many parts seen as the heartbeat says, but not the same ones: the gap must not hide behind newer parts."""
    with gateway_of(here) as gateway:
        wait_until(lambda: here.publisher.sockets.subscribers == 1)
        publish = here.publisher.sockets.publish
        here.publisher.sockets.publish = lambda topic, body: None  # type: ignore[method-assign]
        judge(here, 1)
        wait_until(lambda: here.publisher.published == 1)
        here.publisher.sockets.publish = publish  # type: ignore[method-assign]
        blocked = here.publisher.trigger(here.line)  # keeps the heartbeat's seq at 1
        judge(here, 3)
        heard = listen(gateway, 4)
        assert sorted(verdict.seq for verdict in heard) == [1, 3, 4, 5]
        assert gateway.replayed == 1
        here.publisher.judged(blocked, Judgement(PASS))
        assert [verdict.seq for verdict in listen(gateway, 1)] == [2]


def test_without_a_control_address_it_only_listens(here: Station) -> None:
    with gateway_of(here, control=False) as gateway:
        wait_until(lambda: here.publisher.sockets.subscribers == 1)
        judge(here, 3)
        assert [verdict.seq for verdict in listen(gateway, 3)] == [1, 2, 3]
        assert here.publisher.replay.acknowledged == 0


def test_who_only_listens_keeps_nothing_of_what_came(here: Station) -> None:
    """A gap that nobody can ask for never closes: numbers kept behind it were looked through for each verdict, for days."""
    judge(here, 1)
    wait_until(lambda: here.publisher.published == 1)
    with gateway_of(here, control=False) as gateway:
        wait_until(lambda: here.publisher.sockets.subscribers == 1)
        judge(here, 50)
        assert [verdict.seq for verdict in listen(gateway, 50)] == list(range(2, 52))
        assert list(gateway.verdicts(0.2)) == []
        assert gateway.heartbeat["lines"]["one"]["seq"] == 51
        assert gateway.seen == {}


def test_shadow_verdicts_say_so(station: Start) -> None:
    here = station(modes={"one": "shadow"})
    with gateway_of(here) as gateway:
        wait_until(lambda: here.publisher.sockets.subscribers == 1)
        judge(here, 1)
        assert [verdict.shadow for verdict in listen(gateway, 1)] == [True]


def test_rubbish_on_the_wire_is_passed_over() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as station:
        station.linger = 0
        station.bind("tcp://127.0.0.1:*")
        with Gateway(str(station.getsockopt_string(zmq.LAST_ENDPOINT))) as gateway:
            for _ in range(4):
                station.recv()
            for body in (b"", b"{", b'{"seq":1}', b"\xff"):
                station.send_multipart((b"verdict.json/hall3/one", body))
                station.send_multipart((b"heartbeat/hall3", body))
            station.send_multipart((b"heartbeat/hall3", b'{"epoch":5,"lines":{}}'))
            assert list(gateway.verdicts(0.2)) == []
            assert gateway.heartbeat == {"epoch": 5, "lines": {}}


def test_ask_returns_the_reply_or_says_that_there_is_none(here: Station) -> None:
    assert ask(here.publisher.sockets.control_endpoint, Request(op="status")).status["station"] == "hall3"
    with pytest.raises(DeliveryError, match="no answer"):
        ask("tcp://127.0.0.1:1", Request(op="status"), timeout_s=0.05)


def test_an_address_that_is_none_is_said() -> None:
    with pytest.raises(DeliveryError, match="cannot connect"):
        Gateway("nowhere")


def test_seen_numbers_take_no_room_once_they_are_without_a_gap() -> None:
    seen = Seen()
    assert [seen.add(seq) for seq in (1, 3, 2, 2, 5, 1)] == [True, True, True, False, True, False]
    assert (seen.through, seen.above) == (3, {5})
    assert seen.missing(7) == [4, 6, 7]
    assert seen.missing(3) == []
