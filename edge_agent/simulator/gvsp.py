"""A picture in packets (GVSP, GigE Vision 1.2 chapters 22 to 25): leader, payload, trailer, and their headers. Pure.

Block ids have 16 bits and go from 65535 to 1. A packet size counts the IP and UDP headers too, 28 bytes, and GVSP's own, 8.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge_agent.records import Pixels

LEADER, TRAILER, PAYLOAD = 1, 2, 3
PACKET_UNAVAILABLE = 0x800C
OVERHEAD = 20 + 8 + 8
_IMAGE = 1  # payload type
_LEADER = struct.Struct(">HHQIIIIIHH")


@dataclass(frozen=True, slots=True)
class Block:
    """One picture as it is sent. `rows` is what the leader announces; `content` all there is to send, in parts of `chunk` bytes.
    `lost` are packets that nobody ever gets, not even on request."""

    block_id: int
    timestamp_ns: int
    pixel_format: int
    rows: int
    cols: int
    content: Pixels
    chunk: int
    offset_x: int = 0
    offset_y: int = 0
    lost: frozenset[int] = field(default=frozenset())

    @property
    def payloads(self) -> int:
        return -(-self.content.size // self.chunk)

    @property
    def packets(self) -> int:
        return self.payloads + 2

    def leader(self) -> bytes:
        where = (self.cols, self.rows, self.offset_x, self.offset_y, 0, 0)
        return _LEADER.pack(0, _IMAGE, self.timestamp_ns, self.pixel_format, *where)

    def trailer(self) -> bytes:
        return struct.pack(">HHI", 0, _IMAGE, self.rows)

    def packet(self, number: int) -> tuple[bytes, bytes | memoryview]:
        """Return header and content of one packet; what is lost, or not of this block, is a header that says so."""
        if number >= self.packets or number in self.lost:
            return unavailable(self.block_id, number), b""
        if number == 0:
            return header(self.block_id, LEADER, 0), self.leader()
        if number == self.packets - 1:
            return header(self.block_id, TRAILER, number), self.trailer()
        begin = (number - 1) * self.chunk
        return header(self.block_id, PAYLOAD, number), self.content[begin : begin + self.chunk].data


def chunk_of(packet_size: int) -> int:
    """Return how many bytes of a picture one packet carries."""
    return (packet_size & 0xFFFF) - OVERHEAD


def header(block_id: int, kind: int, number: int) -> bytes:
    return struct.pack(">HHI", 0, block_id, kind << 24 | number)


def unavailable(block_id: int, number: int) -> bytes:
    """Return the packet that says that a packet cannot be sent again."""
    return struct.pack(">HHI", PACKET_UNAVAILABLE, block_id, PAYLOAD << 24 | number)


def headers(packets: int) -> npt.NDArray[np.uint32]:
    """Return all headers of a block as (packets, 2) big-endian words; the block id, the first word, is still missing."""
    words = np.zeros((packets, 2), ">u4")
    words[:, 1] = np.arange(packets, dtype=np.uint32) | PAYLOAD << 24
    words[0, 1] = LEADER << 24
    words[-1, 1] = TRAILER << 24 | (packets - 1)
    return words


def next_id(block_id: int) -> int:
    """Return the block id that follows; 0 is never used."""
    return block_id % 0xFFFF + 1
