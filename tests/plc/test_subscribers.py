"""Slow, stuck and absent subscribers cost nobody else a verdict; what lasts is an alarm."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zmq
from running import BAD, Station, hear, judge_all, wait_until

from edge_agent.clock import HeldClock
from edge_agent.commands.doctor.holders import holder_of
from edge_agent.errors import EdgeAgentError, Reason
from edge_agent.plc.sockets import PlcSockets
from edge_agent.records import NG, Blob, Judgement
from edge_agent.settings import PlcSettings

Start = Callable[..., Station]


def bulky() -> Judgement:
    """A result of half a megabyte, so that the kernel's buffers are full soon."""
    name = "d" * 500_000
    blob = Blob(class_name=name, area_px=1, x=0, y=0, width=1, height=1, centroid_x=0, centroid_y=0, peak=1, mean=1)
    return Judgement(NG, (), (blob,))


def test_a_stuck_subscriber_is_counted_and_a_healthy_one_gets_everything(station: Start) -> None:
    here = station(send_queue=4, replay_parts=16)
    healthy = here.subscriber("verdict.json/")
    here.subscriber("", queue=1, buffer=4096)  # never reads
    seqs: list[int] = []
    until_full = 400
    while until_full:
        here.publisher.judged(here.publisher.trigger(here.line), bulky())
        seqs.append(msgspec.json.decode(hear(healthy)[1])["seq"])
        until_full -= 1
        if here.publisher.sockets.dropped and until_full > 20:
            until_full = 20  # and so many more, which the healthy one must get too
    assert here.publisher.sockets.dropped
    assert seqs == list(range(1, len(seqs) + 1))
    wait_until(lambda: "slow_subscriber" in here.publisher.alarms.active)
    wait_until(lambda: here.line.outcomes[NG] == len(seqs))


_LEAVES = """
import sys, time, zmq
from edge_agent.plc.sockets import PlcSockets
from edge_agent.settings import PlcSettings

settings = PlcSettings(verdicts=f"ipc://{sys.argv[1]}/v", control=f"ipc://{sys.argv[1]}/c")
sockets = PlcSockets("s", settings, 1, 0, ["l"])
kind, address = (zmq.XSUB, settings.verdicts) if sys.argv[2] == "verdicts" else (zmq.DEALER, settings.control)
with zmq.Context() as context, context.socket(kind) as peer:
    peer.linger, peer.sndtimeo, peer.sndhwm = 0, 200, 100
    peer.connect(address)
    try:
        for n in range(20_000):
            peer.send(b"\\1 a topic or a request, %d" % n)
    except zmq.Again:
        pass  # the station reads no more for now
time.sleep(1)
served = []
for _ in range(1000):
    sockets.serve(lambda _, body: served.append(body))
print(len(served))
"""


@pytest.mark.parametrize("address", ["verdicts", "control"])
def test_whoever_leaves_while_much_of_his_waits_ends_nothing(address: str, tmp_path: Path) -> None:
    """libzmq aborted the process, at the next heartbeat."""
    ended = subprocess.run([sys.executable, "-c", _LEAVES, str(tmp_path), address], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert address == "verdicts" or int(ended.stdout) >= 1000, "what the test is about: much waited"


def test_the_send_queue_of_the_settings_is_the_one_that_counts(station: Start) -> None:
    """A queue of one drops long before the library's own thousand would be full."""
    here = station(send_queue=1, replay_parts=16)
    here.subscriber("", queue=1, buffer=4096)
    for n in range(1, 201):
        here.publisher.judged(here.publisher.trigger(here.line), bulky())
        wait_until(lambda n=n: here.publisher.published == n)  # type: ignore[misc]
        if here.publisher.sockets.dropped:
            break
    assert here.publisher.sockets.dropped > 0


def test_subscribers_come_and_go_and_are_counted(station: Start) -> None:
    here = station()
    first = here.subscriber("verdict.json/", "verdict.bin/")
    here.subscriber("heartbeat/")
    second = here.subscriber("verdict.json/hall3/one")
    assert here.publisher.sockets.subscribers == 3
    second.close()
    wait_until(lambda: here.publisher.sockets.subscribers == 2)
    first.unsubscribe("verdict.bin/")
    wait_until(lambda: here.publisher.sockets.subscribers == 1)


def test_who_is_subscribed_to_what_no_line_publishes_hears_no_verdict(station: Start) -> None:
    """A name that is spelled wrong, say: the alarm `unsubscribed` must tell of it."""
    here = station()
    stranger = here.subscriber("heartbeat/")
    for topic in ("verdict.json/hall4/one", "verdict.bin/hall3/two", "verdict.bin/hall3/one"):
        stranger.subscribe(topic)
    wait_until(lambda: b"verdict.bin/hall3/one" in here.publisher.sockets._prefixes)
    assert here.ask(op="status").status["subscribers"] == 1


def test_a_message_sent_upstream_is_no_unsubscription(station: Start) -> None:
    here = station()
    hearing = here.subscriber("verdict.bin/")
    with zmq.Context() as context, context.socket(zmq.XSUB) as stranger:
        stranger.linger = 0
        stranger.connect(here.publisher.sockets.verdicts_endpoint)
        for word in (b"\x01heartbeat/", b"\x02verdict.bin/", b"verdict.bin/", b""):
            stranger.send(word)
        assert stranger.poll(5000), "no heartbeat: the words have not arrived"
        judge_one(here)
        assert hear(hearing)[0] == "verdict.bin/hall3/one"
        assert here.publisher.sockets.subscribers == 1


def judge_one(here: Station) -> None:
    here.publisher.judged(here.publisher.trigger(here.line), bulky())


def test_an_address_that_is_taken_is_said(station: Start) -> None:
    here = station()
    taken = PlcSettings(verdicts=here.publisher.sockets.verdicts_endpoint, control="tcp://127.0.0.1:*")
    with pytest.raises(EdgeAgentError, match="cannot listen"):
        PlcSockets("hall3", taken, 1, 0)


def test_an_address_that_no_interface_has_yet_is_listened_on() -> None:
    """192.0.2.0/24 is nobody's (RFC 5737)."""
    wake = os.eventfd(0)
    sockets = PlcSockets("hall3", PlcSettings(verdicts="tcp://192.0.2.7:*", control="tcp://127.0.0.1:*"), 1, wake)
    port = int(sockets.verdicts_endpoint.removeprefix("tcp://192.0.2.7:"))
    assert holder_of(port).pid == os.getpid()
    with pytest.raises(EdgeAgentError, match=rf"192\.0\.2\.7:{port}: Address already in use\. Is another daemon running"):
        PlcSockets("hall3", PlcSettings(verdicts=sockets.verdicts_endpoint), 1, wake)
    sockets.close()
    assert holder_of(port).pid == 0
    os.close(wake)


def test_a_path_that_is_taken_stays_with_whoever_listens_there(tmp_path_factory: pytest.TempPathFactory) -> None:
    """ZeroMQ would unlink it, and the first daemon's gateways would be left with nobody."""
    folder, wake = tmp_path_factory.mktemp("s"), os.eventfd(0)
    taken = PlcSettings(verdicts=f"ipc://{folder}/v", control=f"ipc://{folder}/c")
    for _ in range(2):  # the second finds what the first left
        first = PlcSockets("hall3", taken, 1, wake)
        with pytest.raises(EdgeAgentError, match=r"/v: Address already in use\. Is another daemon running"):
            PlcSockets("hall3", taken, 1, wake)
        first.close()
    with pytest.raises(EdgeAgentError, match="a path in a folder that is there"):
        PlcSockets("hall3", PlcSettings(verdicts=f"ipc://{folder}/absent/v"), 1, wake)
    os.close(wake)


def test_verdicts_without_acknowledgement_raise_an_alarm_until_they_have_one(station: Start) -> None:
    clock = HeldClock()
    here = station(clock, expect_acknowledgement_s=2)
    judge_all(here, 1)
    wait_until(lambda: here.publisher.published == 1)
    clock.advance_ms(1900)
    here.ask(op="status")
    assert here.publisher.alarms.active == set()
    clock.advance_ms(200)
    wait_until(lambda: here.publisher.alarms.active == {"unacknowledged"})
    here.ask(op="ack", line="one", epoch=here.journal.epoch, seqs=(1,))
    clock.advance_ms(100)
    wait_until(lambda: here.publisher.alarms.active == set())


def test_verdicts_kept_for_less_time_than_an_acknowledgement_may_take_raise_it_too(station: Start) -> None:
    clock = HeldClock()
    here = station(clock, expect_acknowledgement_s=2, replay_parts=16)
    judge_all(here, 2)
    wait_until(lambda: here.publisher.published == 2)
    clock.advance_ms(1000)
    judge_all(here, 18)
    wait_until(lambda: here.publisher.published == 20)
    clock.advance_ms(1100)
    wait_until(lambda: here.publisher.alarms.active == {"unacknowledged"})
    here.ask(op="ack", line="one", epoch=here.journal.epoch, seqs=(20,))
    clock.advance_ms(100)
    wait_until(lambda: here.publisher.alarms.active == set())


def test_ng_in_a_row_raise_an_alarm_and_a_pass_ends_it(station: Start) -> None:
    here = station()
    here.publisher.alarms.limit_ng_run("one", 3)
    judge_all(here, 2, BAD)
    here.publisher.fault(here.publisher.trigger(here.line), Reason.NO_PART)
    wait_until(lambda: here.publisher.published == 3)
    assert here.publisher.alarms.active == set()
    judge_all(here, 1, BAD)
    wait_until(lambda: here.publisher.alarms.active == {"ng_in_a_row/one"})
    judge_all(here, 1)
    wait_until(lambda: here.publisher.alarms.active == set())
