"""Control channel, registers and packets of the simulated camera, without a socket or a host."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from importlib.resources import files

import numpy as np
import pytest

from edge_agent.simulator.control import Control
from edge_agent.simulator.gvsp import Block, header, headers, next_id
from edge_agent.simulator.pictures import PIXEL_FORMATS, Texture, bytes_of, encode, read_sequence, stamp
from edge_agent.simulator.registers import BOOTSTRAP_BYTES, BY_NAME, REGISTERS, XML_ADDRESS, RegisterMap

HOST, OTHER = ("127.0.0.1", 5000), ("127.0.0.1", 6000)
SECOND = 1_000_000_000
CCP, HEARTBEAT, WIDTH, WIDTH_MAX = 0xA00, 0x938, 0xA000, 0xA008
NONE, NOT_IMPLEMENTED, INVALID_PARAMETER, INVALID_ADDRESS, WRITE_PROTECT, BAD_ALIGNMENT, ACCESS_DENIED, INVALID_HEADER = (
    0,
    *(0x8001, 0x8002, 0x8003, 0x8004, 0x8005, 0x8006, 0x800E),
)


class Camera:
    """A control channel alone, with what it was told to do."""

    def __init__(self) -> None:
        self.registers = RegisterMap("127.0.0.9", "S-9", 480, 640)
        self.written: list[str] = []
        self.resent: list[tuple[int, int, int]] = []
        self.control = Control(self.registers, self.written.extend, lambda *what: self.resent.append(what))

    def ask(self, command: int, content: bytes = b"", sender: tuple[str, int] = HOST, now_s: float = 0) -> tuple[int, bytes]:
        """Status and content of the answer; its header is checked."""
        datagram = struct.pack(">BBHHH", 0x42, 1, command, len(content), 77) + content
        answer = self.control.answer(datagram, sender, int(now_s * SECOND))
        assert answer is not None
        status, acknowledged, length, request = struct.unpack_from(">HHHH", answer)
        assert (acknowledged, length, request) == (command + 1, len(answer) - 8, 77)
        return status, answer[8:]

    def read(self, address: int, sender: tuple[str, int] = HOST, now_s: float = 0) -> tuple[int, int]:
        status, content = self.ask(0x80, struct.pack(">I", address), sender, now_s)
        return status, int.from_bytes(content, "big")

    def write(self, address: int, value: int, sender: tuple[str, int] = HOST, now_s: float = 0) -> int:
        return self.ask(0x82, struct.pack(">II", address, value), sender, now_s)[0]


@pytest.fixture
def camera() -> Camera:
    return Camera()


def test_discovery_tells_who_the_camera_is(camera: Camera) -> None:
    status, content = camera.ask(0x02)
    assert (status, len(content)) == (NONE, 0xF8)
    assert content[0x24:0x28] == bytes([127, 0, 0, 9])
    assert content[0x48:].startswith(b"edge-agent\0")
    assert content[0xD8:].startswith(b"S-9\0")


def test_several_registers_in_one_command(camera: Camera) -> None:
    status, content = camera.ask(0x80, struct.pack(">II", WIDTH, HEARTBEAT))
    assert (status, struct.unpack(">II", content)) == (NONE, (640, 3000))
    assert camera.ask(0x82, struct.pack(">IIII", WIDTH, 320, HEARTBEAT, 1000)) == (NONE, struct.pack(">HH", 0, 2))
    assert camera.read(WIDTH) == (NONE, 320)
    assert camera.read(HEARTBEAT) == (NONE, 1000)
    assert camera.written == ["Width", "HeartbeatTimeout"]


def test_a_write_that_is_refused_tells_how_many_went_before(camera: Camera) -> None:
    assert camera.ask(0x82, struct.pack(">IIII", WIDTH, 320, WIDTH_MAX, 5)) == (WRITE_PROTECT, struct.pack(">HH", 0, 1))
    assert camera.read(WIDTH) == (NONE, 320)


def test_memory_is_read_and_written_in_words(camera: Camera) -> None:
    status, content = camera.ask(0x84, struct.pack(">IHH", 0xD8, 0, 16))
    assert (status, content[4:]) == (NONE, b"S-9".ljust(16, b"\0"))
    assert camera.ask(0x86, struct.pack(">I", 0xE8) + b"left one".ljust(16, b"\0"))[0] == NONE
    assert camera.ask(0x84, struct.pack(">IHH", 0xE8, 0, 8))[1][4:] == b"left one"
    assert camera.ask(0x86, struct.pack(">Id", BY_NAME["ExposureTime"].address, 250.5))[0] == NONE
    assert camera.registers.number("ExposureTime") == 250.5


@pytest.mark.parametrize(
    ("command", "content", "status"),
    [
        (0x1234, b"", NOT_IMPLEMENTED),
        (0x80, struct.pack(">I", 0x9000), INVALID_ADDRESS),
        (0x80, struct.pack(">I", 0xFFFF_FFFC), INVALID_ADDRESS),
        (0x80, struct.pack(">I", 0xA01), BAD_ALIGNMENT),
        (0x80, b"abc", INVALID_PARAMETER),
        (0x84, struct.pack(">IHH", 0x200, 0, 540), INVALID_PARAMETER),
        (0x84, struct.pack(">IHH", BOOTSTRAP_BYTES - 4, 0, 8), INVALID_ADDRESS),
        (0x82, struct.pack(">II", 0x9000, 1), INVALID_ADDRESS),
        (0x82, struct.pack(">II", 0x000, 1), WRITE_PROTECT),
        (0x82, struct.pack(">II", WIDTH, 641), INVALID_PARAMETER),
        (0x82, struct.pack(">II", 0xA018, 0x0108_0002), INVALID_PARAMETER),
        (0x82, struct.pack(">II", 0xD04, 575), INVALID_PARAMETER),
        (0x82, struct.pack(">II", BY_NAME["Gain"].address, 0), INVALID_PARAMETER),
        (0x86, struct.pack(">Id", BY_NAME["Gain"].address, float("nan")), INVALID_PARAMETER),
        (0x86, b"", INVALID_PARAMETER),
    ],
)
def test_what_cannot_be_is_refused_by_its_status(camera: Camera, command: int, content: bytes, status: int) -> None:
    before = camera.registers.read(0, BOOTSTRAP_BYTES)
    assert camera.ask(command, content)[0] == status
    assert camera.registers.read(0, BOOTSTRAP_BYTES) == before
    assert camera.written == []


def test_a_datagram_that_is_none_is_not_answered(camera: Camera) -> None:
    for datagram in (b"", b"\x42\x01", b"\x41" + bytes(7), struct.pack(">BBHHH", 0x42, 0, 0x02, 0, 1)):
        assert camera.control.answer(datagram, HOST, 0) is None
    wrong_length = struct.pack(">BBHHH", 0x42, 1, 0x80, 8, 1) + bytes(4)
    answer = camera.control.answer(wrong_length, HOST, 0)
    assert answer is not None
    assert answer[:2] == INVALID_HEADER.to_bytes(2, "big")


def test_in_control_one_writes_and_all_read(camera: Camera) -> None:
    assert camera.write(CCP, 2) == NONE
    assert camera.write(WIDTH, 100, OTHER) == ACCESS_DENIED
    assert camera.write(CCP, 2, OTHER) == ACCESS_DENIED
    assert camera.read(WIDTH, OTHER) == (NONE, 640)
    assert camera.write(CCP, 0) == NONE
    assert camera.write(WIDTH, 100, OTHER) == NONE


def test_in_exclusive_control_nobody_else_even_reads(camera: Camera) -> None:
    assert camera.write(CCP, 1) == NONE
    assert camera.read(WIDTH, OTHER) == (ACCESS_DENIED, 0)
    assert camera.ask(0x02, sender=OTHER)[0] == NONE
    assert camera.read(WIDTH) == (NONE, 640)


def test_control_lasts_as_long_as_the_heart_beats(camera: Camera) -> None:
    camera.write(HEARTBEAT, 500)
    camera.write(CCP, 2)
    camera.read(CCP, now_s=0.4)
    camera.read(CCP, OTHER, now_s=0.8)  # another's words are no heartbeat
    assert not camera.control.expire(int(0.9 * SECOND))
    assert camera.control.expire(int(0.91 * SECOND))
    assert camera.read(CCP) == (NONE, 0)
    assert camera.write(CCP, 2, OTHER) == NONE


def test_packets_are_sent_again_to_the_controllers_machine_alone(camera: Camera) -> None:
    datagram = struct.pack(">BBHHHHHII", 0x42, 0, 0x40, 12, 9, 0, 65535, 3, 5)
    assert camera.control.answer(datagram, HOST, 0) is None
    camera.write(CCP, 2)
    camera.control.answer(datagram, ("127.0.0.1", 40000), 0)
    camera.control.answer(datagram, ("127.0.0.3", 5000), 0)
    assert camera.resent == [(65535, 3, 5)]


def test_geometry_stays_while_pictures_are_taken(camera: Camera) -> None:
    camera.registers.is_acquiring = True
    assert camera.write(WIDTH, 100) == WRITE_PROTECT
    assert camera.write(HEARTBEAT, 600) == NONE


def test_payload_and_limits_follow_the_region(camera: Camera) -> None:
    payload, left = BY_NAME["PayloadSize"].address, BY_NAME["OffsetX"].address
    camera.write(WIDTH, 600)
    camera.write(0xA018, PIXEL_FORMATS["Mono12Packed"])
    assert camera.read(payload) == (NONE, 600 * 480 * 3 // 2)
    assert camera.write(left, 41) == INVALID_PARAMETER
    assert camera.write(left, 40) == NONE
    assert camera.write(WIDTH, 601) == INVALID_PARAMETER
    camera.registers.reset()
    assert (camera.read(WIDTH), camera.read(left), camera.read(payload)) == ((0, 640), (0, 0), (0, 640 * 480))


def test_the_description_names_registers_that_are_there() -> None:
    text = (files("edge_agent.simulator") / "camera.xml").read_text()
    root = ElementTree.fromstring(text)
    space = re.match(r"{.*}", root.tag)[0]  # type: ignore[index]
    by_address = {register.address: register for register in REGISTERS}
    found = 0
    for node in root:
        kind = node.tag.removeprefix(space)
        if kind not in ("IntReg", "FloatReg", "MaskedIntReg"):
            continue
        told = {child.tag.removeprefix(space): child.text for child in node}
        register = by_address[int(told["Address"] or "", 16)]
        assert (register.length, register.form) == (int(told["Length"] or ""), "d" if kind == "FloatReg" else "I"), register.name
        assert register.is_writable == ("W" in (told["AccessMode"] or "")), register.name
        found += 1
    assert found > 25
    named = {node.get("Name") for node in root}
    meant = {child.text for node in root.iter() for child in node if re.search(r"}(pFeature|pValue|pMax|pVariable)$", child.tag)}
    assert meant <= named


def test_the_description_is_read_to_its_end(camera: Camera) -> None:
    url = camera.registers.read(0x200, 512).split(b"\0")[0].decode()
    name, address, size = url.removeprefix("Local:").split(";")
    assert (name, int(address, 16)) == ("camera.xml", XML_ADDRESS)
    words = -(-int(size, 16) // 4) * 4
    assert camera.registers.read(XML_ADDRESS, words).rstrip(b"\0").endswith(b"</RegisterDescription>\n")


def block(size: int = 1000, chunk: int = 300, lost: frozenset[int] = frozenset()) -> Block:
    return Block(
        65535, 5 << 32 | 7, PIXEL_FORMATS["Mono8"], 25, 40, np.arange(size, dtype=np.uint32).astype(np.uint8), chunk, lost=lost
    )


def test_a_block_is_leader_payload_and_trailer() -> None:
    one = block()
    assert one.packets == 6
    head, leader = one.packet(0)
    assert head == bytes.fromhex("0000ffff01000000")
    assert bytes(leader) == struct.pack(">HHIIIIIIIHH", 0, 1, 5, 7, 0x0108_0001, 40, 25, 0, 0, 0, 0)
    assert [len(one.packet(n)[1]) for n in range(1, 5)] == [300, 300, 300, 100]
    assert b"".join(bytes(one.packet(n)[1]) for n in range(1, 5)) == one.content.tobytes()
    assert one.packet(5) == (bytes.fromhex("0000ffff02000005"), struct.pack(">HHI", 0, 1, 25))


def test_what_is_lost_or_not_there_says_so() -> None:
    one = block(lost=frozenset({2}))
    assert one.packet(2) == (bytes.fromhex("800cffff03000002"), b"")
    assert one.packet(6)[0][:2] == b"\x80\x0c"


def test_headers_made_at_once_are_those_made_one_by_one() -> None:
    words = headers(6)
    words[:, 0] = 65535
    assert words.tobytes() == b"".join(block().packet(n)[0] for n in range(6))
    assert header(7, 3, 0xFF_FFFF) == bytes.fromhex("0000000703ffffff")


def test_block_ids_never_are_0() -> None:
    assert [next_id(n) for n in (1, 65534, 65535)] == [2, 65535, 1]


@pytest.mark.parametrize("name", PIXEL_FORMATS)
def test_a_picture_takes_as_many_bytes_as_its_format_says(name: str) -> None:
    gray = np.arange(15 * 17, dtype=np.uint8).reshape(15, 17)
    assert encode(gray, PIXEL_FORMATS[name]).size == bytes_of(15 * 17, PIXEL_FORMATS[name])


def test_gray_becomes_every_format_from_black_to_white() -> None:
    gray = np.array([[0, 255, 0xA5]], np.uint8)
    made = {name: encode(gray, code) for name, code in PIXEL_FORMATS.items()}
    assert made["Mono8"].tolist() == [0, 255, 0xA5]
    assert made["RGB8"].tolist() == [0] * 3 + [255] * 3 + [0xA5] * 3
    for name, white, middle in (("Mono10", 1023, 0x296), ("Mono12", 4095, 0xA5A), ("Mono16", 65535, 0xA5A5)):
        assert made[name].view("<u2").tolist() == [0, white, middle]
    assert made["Mono12Packed"].tobytes() == bytes.fromhex("00f0ff a50a".replace(" ", ""))


def test_noise_differs_from_picture_to_picture_and_carries_its_number() -> None:
    texture = Texture()
    one, two = texture(1, 48, 64), texture(2, 48, 64)
    assert not np.array_equal(one, two)
    assert np.array_equal(one, texture(1, 48, 64))
    assert one.std() > 20
    assert read_sequence(stamp(one, 70_000)) == 70_000
    assert np.array_equal(stamp(one, 1).ravel()[8:], one.ravel()[8:])
