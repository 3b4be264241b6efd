"""The packet socket: what it takes of a camera that does not tell the port its pictures come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from aravis import require_aravis
from bench_aravis import Bench, benches, reasons

from edge_agent.camera import aravis_stream
from edge_agent.camera.aravis_library import Library
from edge_agent.errors import CameraError
from edge_agent.simulator.datagrams import Datagrams

require_aravis()
if not aravis_stream.may_open_packet_socket():
    pytest.skip("a packet socket needs CAP_NET_RAW", allow_module_level=True)

OLDER_THAN_ANY = (9, 9, 9)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    with benches() as make:
        yield make


def refuse(*_: object) -> int:
    raise CameraError("GigE Vision's 0x8003: there is no such register")


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("is_old", [True, False])
def test_pictures_come_whichever_the_library_and_the_camera(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, tells: bool, is_old: bool
) -> None:
    if is_old:
        monkeypatch.setattr(aravis_stream, "_HEARS_ANY_PORT", OLDER_THAN_ANY)
    if not tells:
        monkeypatch.setattr(Datagrams, "port", 0)
    here = bench(frame_rate_hz=50.0, socket="auto").open()
    assert not reasons(here.arrivals(5))


def test_a_camera_without_that_register_tells_no_port(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aravis_stream, "_HEARS_ANY_PORT", OLDER_THAN_ANY)
    monkeypatch.setattr(Library, "register", refuse)
    assert not reasons(bench(frame_rate_hz=50.0, socket="auto").open().arrivals(2))
    with pytest.raises(CameraError, match="Set standard"):
        bench(socket="packet").open()


def test_a_packet_socket_that_would_hear_nothing_is_refused(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aravis_stream, "_HEARS_ANY_PORT", OLDER_THAN_ANY)
    here = bench(socket="packet").open()  # it tells its port
    assert not reasons(here.arrivals(2))
    monkeypatch.setattr(Datagrams, "port", 0)
    with pytest.raises(CameraError, match=r"cam at 127\..*socket: packet: Aravis 0\.\d+\.\d+ gets nothing .* Set standard"):
        bench(socket="packet").open()
