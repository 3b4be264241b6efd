"""The simulated camera over plain sockets: what it sends, without a library in between."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest
from simulation import Simulate, wait_for

from edge_agent.errors import CameraError, ConfigurationError
from edge_agent.simulator import SimulatedCamera, Truth
from edge_agent.simulator.registers import BY_NAME


class PlainHost:
    """Sends commands, receives packets."""

    def __init__(self, address: str) -> None:
        self.control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.control.connect((address, 3956))
        self.stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.stream.bind(("127.0.0.1", 0))
        for each in (self.control, self.stream):
            each.settimeout(2)

    def write(self, name: str, value: int) -> None:
        content = struct.pack(">II", BY_NAME[name].address, value)
        self.control.send(struct.pack(">BBHHH", 0x42, 1, 0x82, len(content), 1) + content)
        assert self.control.recv(100) == struct.pack(">HHHHHH", 0, 0x83, 4, 1, 0, 1)

    def arm(self) -> None:
        """Take control, and have pictures sent here on Line0."""
        here = {"StreamAddress": 0x7F00_0001, "StreamPort": self.stream.getsockname()[1], "PacketSize": 1400}
        for name, value in ({"ControlPrivilege": 2} | here | {"TriggerMode": 1, "TriggerSource": 1, "AcquisitionStart": 1}).items():
            self.write(name, value)

    def packets(self) -> list[tuple[int, int, int, bytes]]:
        """Receive to the trailer: block id, kind, number and content of each packet."""
        got: list[tuple[int, int, int, bytes]] = []
        while not got or got[-1][1] != 2:
            packet = self.stream.recv(65536)
            status, block_id, kind_and_number = struct.unpack_from(">HHI", packet)
            assert status == 0
            got.append((block_id, kind_and_number >> 24, kind_and_number & 0xFF_FFFF, packet[8:]))
        return got

    def close(self) -> None:
        self.control.close()
        self.stream.close()


@pytest.fixture
def plain(address: str, simulate: Simulate) -> Iterator[tuple[SimulatedCamera, PlainHost]]:
    camera = simulate()
    host = PlainHost(address)
    host.arm()
    yield camera, host
    host.close()


def test_a_picture_is_leader_payload_trailer_in_order(plain: tuple[SimulatedCamera, PlainHost]) -> None:
    camera, host = plain
    for block_id in (1, 2):
        assert camera.pulse()
        packets = host.packets()
        chunk = 1400 - 36
        payloads = -(-120 * 160 // chunk)
        assert [packet[:3] for packet in packets] == [
            (block_id, 1, 0),
            *((block_id, 3, number) for number in range(1, payloads + 1)),
            (block_id, 2, payloads + 1),
        ]
        assert {len(content) for *_, content in packets[1:-2]} == {chunk}
        assert b"".join(content for *_, content in packets[1:-1]) == camera.picture(block_id).tobytes()
        assert struct.unpack_from(">HHQIII", packets[0][3])[1::2] == (1, 0x0108_0001, 120)


def test_the_port_that_pictures_come_from_is_told(plain: tuple[SimulatedCamera, PlainHost]) -> None:
    camera, host = plain
    camera.pulse()
    _, (_, port) = host.stream.recvfrom(65536)
    assert camera.register("StreamSourcePort") == port


def test_what_is_asked_for_again_comes_again(plain: tuple[SimulatedCamera, PlainHost]) -> None:
    camera, host = plain
    camera.pulse()
    packets = host.packets()
    host.control.send(struct.pack(">BBHHHHHII", 0x42, 0, 0x40, 12, 9, 0, 1, 2, 3))
    again = [host.stream.recv(65536)[8:] for _ in range(2)]
    assert again == [content for *_, content in packets[2:4]]
    host.control.send(struct.pack(">BBHHHHHII", 0x42, 0, 0x40, 12, 9, 0, 500, 2, 3))
    assert host.stream.recv(65536)[:4] == bytes.fromhex("800c01f4")
    assert camera.counters()["packets_resent"] == 2


def test_a_delay_between_packets_is_kept(plain: tuple[SimulatedCamera, PlainHost]) -> None:
    camera, host = plain
    host.write("PacketDelay", 1_000_000)  # 1 ms from one of 17 packets to the next
    start = time.monotonic()
    camera.pulse()
    host.packets()
    assert time.monotonic() - start > 0.014


def test_without_a_stream_a_trigger_comes_to_nothing_and_is_told(plain: tuple[SimulatedCamera, PlainHost]) -> None:
    camera, host = plain
    host.write("StreamPort", 0)
    assert camera.pulse()
    assert wait_for(lambda: camera.log)
    assert isinstance(camera.log[0], Truth)
    assert (camera.log[0].fate, camera.log[0].block_id) == ("no_stream", 0)


def test_what_is_in_hand_when_it_stops_is_told(plain: tuple[SimulatedCamera, PlainHost]) -> None:
    camera, host = plain
    host.control.send(struct.pack(">BBHHHId", 0x42, 0, 0x86, 12, 1, BY_NAME["ExposureTime"].address, 1e6))
    assert wait_for(lambda: camera.register("ExposureTime") == 1e6)
    assert camera.pulse()
    host.write("AcquisitionStop", 1)
    assert wait_for(lambda: camera.fates["stopped"] == 1)
    assert camera.counters()["triggers"] == 1


def test_every_trigger_has_one_fate(address: str, simulate: Simulate) -> None:
    spec = "drop=0.1,ignored=0.1,leader=0.1,truncated=0.1,power_every=40:10ms"
    camera = simulate(rate_hz=1.0, trigger_rate_hz=500, exposure_us=1500.0, faults=spec)
    host = PlainHost(address)
    host.arm()
    assert wait_for(lambda: camera.fates["power"] > 3)
    camera.close()
    host.close()
    triggers = [record.trigger for record in camera.log if isinstance(record, Truth)]
    assert sorted(triggers) == list(range(1, camera.counters()["triggers"] + 1))
    assert camera.fates.total() == len(triggers)


def test_pictures_may_be_bytes(address: str, simulate: Simulate) -> None:
    camera = simulate(pictures=lambda sequence, rows, cols: bytes([sequence]) * (rows * cols))
    assert np.array_equal(camera.picture(9), np.full((120, 160), 9, np.uint8))


def test_an_address_is_one_cameras_and_this_machines(address: str, simulate: Simulate) -> None:
    simulate()
    with pytest.raises(CameraError, match="in use"):
        SimulatedCamera(address).open()
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1 is not this machine's"):
        SimulatedCamera("192.0.2.1").open()


def test_a_closed_camera_opens_again_as_new(address: str, simulate: Simulate) -> None:
    camera = simulate()
    for _ in range(2):
        host = PlainHost(address)
        host.arm()
        assert camera.pulse()
        assert host.packets()[0][0] == 1
        host.close()
        camera.close()
        camera.close()
        camera.open()
        assert camera.controller is None
        assert not camera.is_acquiring
