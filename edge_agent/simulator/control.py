"""The control channel (GVCP, GigE Vision 1.2 chapters 14 to 18): one datagram in, its answer out, and who is in control.

No socket and no clock in here: the camera passes both. One application may be in control at a time; in exclusive control nobody
else may even read. A controller not heard of for the heartbeat timeout is in control no more.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from edge_agent.simulator.registers import INVALID_PARAMETER, RegisterMap, StatusError

PORT = 3956
Address = tuple[str, int]

DISCOVERY, RESEND, READREG, WRITEREG, READMEM, WRITEMEM = 0x0002, 0x0040, 0x0080, 0x0082, 0x0084, 0x0086
NOT_IMPLEMENTED, ACCESS_DENIED, INVALID_HEADER = 0x8001, 0x8006, 0x800E
EXCLUSIVE, CONTROL = 1, 2  # of the control channel privilege register

_KEY = 0x42
_HEADER = struct.Struct(">BBHHH")
_ACK = struct.Struct(">HHHH")
_DISCOVERY_BYTES = 0xF8
_READ_MOST = 536  # bytes; what fits a GVCP datagram of 576


class Control:
    """Answers what a host asks. `written` is told the registers written, `resend` (block id, first, last packet) to send again."""

    def __init__(
        self, registers: RegisterMap, written: Callable[[list[str]], None], resend: Callable[[int, int, int], None]
    ) -> None:
        self.controller: Address | None = None
        self._registers = registers
        self._written = written
        self._resend = resend
        self._heard_ns = 0

    def answer(self, datagram: bytes, sender: Address, now_ns: int) -> bytes | None:
        """Do what a datagram asks; return the acknowledgement, None where none is due."""
        if len(datagram) < _HEADER.size or datagram[0] != _KEY:
            return None
        _, flags, command, length, request = _HEADER.unpack_from(datagram)
        content = datagram[_HEADER.size :]
        if sender == self.controller:
            self._heard_ns = now_ns
        try:
            if length != len(content):
                raise StatusError(INVALID_HEADER)
            status, reply = self._do(command, content, sender, now_ns)
        except StatusError as error:
            status, reply = error.status, b""
        except struct.error:
            status, reply = INVALID_PARAMETER, b""
        if command == RESEND or not flags & 1:  # packets themselves are the answer to a resend command
            return None
        return _ACK.pack(status, command + 1 & 0xFFFF, len(reply), request) + reply

    def expire(self, now_ns: int) -> bool:
        """Say whether the controller has just lost control, for it was silent too long."""
        if self.controller is None or now_ns - self._heard_ns <= self._registers["HeartbeatTimeout"] * 1_000_000:
            return False
        self.release()
        return True

    def release(self) -> None:
        """Nobody is in control."""
        self.controller = None
        self._registers["ControlPrivilege"] = 0

    def hold(self, holder: Address, until_ns: int) -> None:
        """`holder` is in exclusive control until then, whoever was before."""
        self.controller = holder
        self._registers["ControlPrivilege"] = EXCLUSIVE
        self._heard_ns = until_ns - self._registers["HeartbeatTimeout"] * 1_000_000

    def _do(self, command: int, content: bytes, sender: Address, now_ns: int) -> tuple[int, bytes]:
        """Return status and content of the answer. Raises StatusError, struct.error."""
        if command == DISCOVERY:
            return 0, self._registers.read(0, _DISCOVERY_BYTES)
        if command == RESEND:
            self._again(content, sender)
            return 0, b""
        is_write = command in (WRITEREG, WRITEMEM)
        if command not in (READREG, READMEM) and not is_write:
            raise StatusError(NOT_IMPLEMENTED)
        self._require_access(sender, is_write)
        if command == READREG:
            return 0, b"".join(self._registers.read(address, 4) for (address,) in struct.iter_unpack(">I", content))
        if command == READMEM:
            address, _, length = struct.unpack(">IHH", content)
            if length > _READ_MOST:
                raise StatusError(INVALID_PARAMETER)
            return 0, content[:4] + self._registers.read(address, length)
        if command == WRITEREG:
            return self._write_registers(content, sender, now_ns)
        (address,) = struct.unpack_from(">I", content)
        self._store(address, content[4:], sender, now_ns)
        return 0, struct.pack(">HH", 0, len(content) - 4)

    def _require_access(self, sender: Address, is_write: bool) -> None:
        if self.controller in (None, sender):
            return
        if is_write or self._registers["ControlPrivilege"] & EXCLUSIVE:
            raise StatusError(ACCESS_DENIED)

    def _write_registers(self, content: bytes, sender: Address, now_ns: int) -> tuple[int, bytes]:
        """Write one register after the other; the answer tells how many were before a refusal."""
        done = 0
        try:
            for address, value in struct.iter_unpack(">I4s", content):
                self._store(address, value, sender, now_ns)
                done += 1
        except StatusError as error:
            return error.status, struct.pack(">HH", 0, done)
        return 0, struct.pack(">HH", 0, done)

    def _store(self, address: int, content: bytes, sender: Address, now_ns: int) -> None:
        names = self._registers.write(address, content)
        if "ControlPrivilege" in names:
            is_taken = self._registers["ControlPrivilege"] & (EXCLUSIVE | CONTROL)
            self.controller = sender if is_taken else None
            self._heard_ns = now_ns
        self._written(names)

    def _again(self, content: bytes, sender: Address) -> None:
        """Resend commands come from the controller's machine, but from its stream's port."""
        if self.controller is None or self.controller[0] != sender[0]:
            return
        _, block_id, first, last = struct.unpack_from(">HHII", content)
        self._resend(block_id, first & 0xFF_FFFF, last & 0xFF_FFFF)
