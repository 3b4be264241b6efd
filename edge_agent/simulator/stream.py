"""The stream channel: makes a block of each exposure, with its fault, sends it, and remembers a few to send packets again."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge_agent.records import Pixels
from edge_agent.simulator.datagrams import Datagrams
from edge_agent.simulator.faults import Faults
from edge_agent.simulator.gvsp import Block, chunk_of, next_id, unavailable
from edge_agent.simulator.pictures import Pictures, bytes_of, encode, stamp
from edge_agent.simulator.registers import RegisterMap

_REMEMBERED_BYTES = 32 << 20  # of blocks whose packets can be sent again: a host asks after some 20 ms, a few times
_UDP_OVERHEAD = 28


@dataclass(frozen=True, slots=True)
class Region:
    """What of the sensor is sent, and how."""

    sensor_rows: int
    sensor_cols: int
    top: int
    left: int
    rows: int
    cols: int
    pixel_format: int

    @classmethod
    def of(cls, registers: RegisterMap) -> Region:
        names = ("HeightMax", "WidthMax", "OffsetY", "OffsetX", "Height", "Width", "PixelFormat")
        return cls(*(registers[name] for name in names))

    @property
    def size(self) -> int:
        """Bytes of a picture."""
        return bytes_of(self.rows * self.cols, self.pixel_format)


@dataclass(frozen=True, slots=True)
class Order:
    """One exposure as it stood when it ended: what to make of it, and where to send it."""

    sequence: int
    block_id: int
    fault: str
    timestamp_ns: int
    region: Region
    chunk: int
    host: tuple[str, int]
    delay_ns: float


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to be sent, or, without a block, to be lost."""

    order: Order
    fate: str
    block: Block | None
    is_lost: npt.NDArray[np.bool_]


class Sender:
    """Sends pictures to whom the registers name. Everything runs under the camera's lock but `make` and `send`, which take long."""

    def __init__(
        self, registers: RegisterMap, faults: Faults, pictures: Pictures, is_stamped: bool, link_mbit_s: float, has_clock: bool
    ) -> None:
        self.block_id = faults.plan.first_id
        self.counters = {"packets_lost": 0, "resend_commands": 0, "packets_resent": 0}
        self._registers = registers
        self._faults = faults
        self._pictures = pictures
        self._is_stamped = is_stamped
        self._has_clock = has_clock
        self._ns_per_byte = 8e3 / link_mbit_s if link_mbit_s else 0.0
        self._sequence = 0
        self._has_begun = False
        self._content: Pixels | None = None  # of the picture before, for one that is frozen
        self._blocks: deque[Block] = deque()
        self._remembering = threading.Lock()
        self._powered_ns = time.monotonic_ns()

    def open(self, address: str) -> None:
        self._datagrams = Datagrams(address)
        self._registers.set_default("StreamSourcePort", self._datagrams.port)

    def close(self) -> None:
        self._datagrams.close()

    def begin(self) -> None:
        """The host opened or closed the stream channel: ids begin again at 1; the first time, where the plan says."""
        if self._registers["StreamPort"]:
            self.block_id = 1 if self._has_begun else self._faults.plan.first_id
            self._has_begun = True
        with self._remembering:
            self._blocks.clear()

    def forget(self) -> None:
        """Power went: nothing is remembered, and time begins anew."""
        with self._remembering:
            self._blocks.clear()
        self._content = None
        self.block_id = 1
        self._has_begun = True
        self._powered_ns = time.monotonic_ns()

    def expose(self) -> int:
        """Return the sequence number of the exposure that has just ended."""
        self._sequence += 1
        return self._sequence

    def see(self, sequence: int, region: Region) -> Pixels:
        """Return the gray picture, (rows, cols) of the region."""
        seen = self._pictures(sequence, region.sensor_rows, region.sensor_cols)
        gray = seen if isinstance(seen, np.ndarray) else np.frombuffer(seen, np.uint8)
        sensor = gray.reshape(region.sensor_rows, region.sensor_cols)
        part = sensor[region.top : region.top + region.rows, region.left : region.left + region.cols]
        return stamp(part, sequence) if self._is_stamped else part

    def order(self, sequence: int, exposed_ns: int) -> Order | None:
        """Return what is to become of an exposure that ended at `exposed_ns`; None where no host listens."""
        host = self._host()
        if host is None:
            return None
        block_id, self.block_id = self.block_id, next_id(self.block_id)
        fault = self._faults.choose(sequence)
        region, chunk = Region.of(self._registers), chunk_of(self._registers["PacketSize"])
        return Order(sequence, block_id, fault, self._time_ns(exposed_ns), region, chunk, host, self._delay_ns())

    def make(self, order: Order) -> Job:
        """Return the picture as it is to be sent, remembered from now on."""
        if order.fault == "drop":
            return Job(order, "drop", None, np.zeros(0, bool))
        if order.fault == "frozen" and (self._content is None or self._content.size != order.region.size):
            order = replace(order, fault="")  # nothing was sent before that could come again
        block = self._block(order)
        is_lost = np.zeros(block.packets, bool) if order.fault else self._faults.choose_lost(block.packets)
        is_lost[list(block.lost)] = True
        self.counters["packets_lost"] += int(is_lost.sum())
        self._remember(block)
        return Job(order, order.fault or ("loss" if is_lost.any() else "good"), block, is_lost)

    def send(self, job: Job) -> None:
        """Send a picture; blocks for as long as that takes."""
        if job.order.fault == "late":
            time.sleep(self._faults.duration_s("late"))
        if job.block is not None:
            self._datagrams.send_block(job.block, job.order.host, job.is_lost, job.order.delay_ns)

    def resend(self, block_id: int, first: int, last: int) -> None:
        """Send packets again, or say of each that it is not to be had."""
        self.counters["resend_commands"] += 1
        host = self._host()
        if host is None or not self._faults.plan.can_resend:
            return
        with self._remembering:
            block = next((block for block in self._blocks if block.block_id == block_id), None)
        if block is None:
            self._datagrams.send((unavailable(block_id, first),), host)
            return
        for number in range(first, min(last, block.packets - 1) + 1):
            if not self._faults.is_resend_lost():
                self._datagrams.send(block.packet(number), host)
                self.counters["packets_resent"] += 1

    def send_test_packet(self) -> None:
        """One packet of the size in the register, by which a host finds out what the way to it carries."""
        host = self._host()
        if host is not None:
            self._datagrams.send((bytes((self._registers["PacketSize"] & 0xFFFF) - _UDP_OVERHEAD),), host)

    def reset_clock(self) -> None:
        self._powered_ns = time.monotonic_ns()

    def latch_timestamp(self) -> None:
        """Reset (1) or latch (2) the clock, as the register just written says."""
        control = self._registers["TimestampControl"]
        if control & 1:
            self.reset_clock()
        if control & 2:
            ticks = self._time_ns(time.monotonic_ns())
            self._registers["TimestampHigh"], self._registers["TimestampLow"] = ticks >> 32, ticks & 0xFFFF_FFFF

    def _remember(self, block: Block) -> None:
        with self._remembering:
            self._blocks.append(block)
            while len(self._blocks) > max(2, _REMEMBERED_BYTES // block.content.size):
                self._blocks.popleft()

    def _block(self, order: Order) -> Block:
        """The picture in packets, as the fault has it."""
        region, fault, chunk = order.region, order.fault, order.chunk
        content = self._content if fault == "frozen" else None
        if content is None:
            level = {"black": 0, "saturated": 255}.get(fault)
            gray = self.see(order.sequence, region) if level is None else np.full((region.rows, region.cols), level, np.uint8)
            content = encode(gray, region.pixel_format)
        self._content = content
        if fault == "truncated":
            half = content.size // 2
            content = content[: half // chunk * chunk or half]
        packets = -(-content.size // chunk) + 2
        lost = {"leader": frozenset({0}), "trailer": frozenset({packets - 1})}.get(fault, frozenset[int]())
        rows = region.rows // 2 if fault == "wrong_size" else region.rows
        size = (rows, region.cols)
        return Block(order.block_id, order.timestamp_ns, region.pixel_format, *size, content, chunk, region.left, region.top, lost)

    def _host(self) -> tuple[str, int] | None:
        """Where pictures go: address and port in the registers."""
        port, address = self._registers["StreamPort"], self._registers["StreamAddress"]
        return (socket.inet_ntoa(struct.pack(">I", address)), port) if port and address else None

    def _delay_ns(self) -> float:
        """From one packet to the next: what the host asks for, and what the link takes to carry one."""
        return self._registers["PacketDelay"] + self._ns_per_byte * (self._registers["PacketSize"] & 0xFFFF)

    def _time_ns(self, here_ns: int) -> int:
        return max(1, here_ns - self._powered_ns) if self._has_clock else 0
