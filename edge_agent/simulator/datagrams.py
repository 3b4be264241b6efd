"""Sends a picture's packets by few system calls: sendmmsg(2) over arrays made once for each size of picture.

Python's own sendmsg costs several microseconds a packet; this costs the kernel's share only. The layouts are those of 64-bit Linux.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import time

import numpy as np
import numpy.typing as npt

from edge_agent.simulator.gvsp import Block, headers

_AT_ONCE = 1024  # UIO_MAXIOV: more messages than this the kernel does not take
_BREATH_NS = 500_000  # with a delay between packets, as many are sent at once as are due in this time
_BUFFER_BYTES = 4 << 20
# struct mmsghdr in words of 8 bytes: name, its length, vectors, their number, control, its length, flags, bytes sent
_NAME, _NAME_LENGTH, _VECTORS, _VECTOR_COUNT, _WORDS = 0, 1, 2, 3, 8
_sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
_sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]


class _Arrays:
    """Messages for pictures of one size; only the block id, the leader and the picture's address change from one to the next."""

    def __init__(self, payloads: int, chunk: int, size: int) -> None:
        packets = payloads + 2
        self.key = (payloads, chunk, size)
        self.headers = headers(packets)
        self.leader = np.zeros(36, np.uint8)
        self.trailer = np.zeros(8, np.uint8)
        self.name = np.zeros(16, np.uint8)
        self.vectors = np.zeros((packets, 2, 2), np.uint64)  # address and length of header and content
        self.vectors[:, 0, 0] = self.headers.ctypes.data + np.arange(packets, dtype=np.uint64) * 8
        self.vectors[:, 0, 1] = 8
        self.vectors[1:-1, 1, 1] = chunk
        self.vectors[-2, 1, 1] = size - (payloads - 1) * chunk
        self.vectors[0, 1] = self.leader.ctypes.data, self.leader.size
        self.vectors[-1, 1] = self.trailer.ctypes.data, self.trailer.size
        self.steps = np.arange(payloads, dtype=np.uint64) * chunk
        self.messages = np.zeros((packets, _WORDS), np.uint64)
        self.messages[:, _NAME] = self.name.ctypes.data
        self.messages[:, _NAME_LENGTH] = self.name.size
        self.messages[:, _VECTORS] = self.vectors.ctypes.data + np.arange(packets, dtype=np.uint64) * 32
        self.messages[:, _VECTOR_COUNT] = 2

    def put(self, block: Block, host: tuple[str, int]) -> None:
        self.headers[:, 0] = block.block_id
        self.leader[:] = np.frombuffer(block.leader(), np.uint8)
        self.trailer[:] = np.frombuffer(block.trailer(), np.uint8)
        self.vectors[1:-1, 1, 0] = self.steps + block.content.ctypes.data
        family = socket.AF_INET.to_bytes(2, "little" if np.little_endian else "big")
        self.name[:8] = np.frombuffer(family + host[1].to_bytes(2, "big") + socket.inet_aton(host[0]), np.uint8)


class Datagrams:
    """The stream channel's socket. `send_block` is for one thread, `send` for any."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._socket.bind((address, 0))
        self._arrays: _Arrays | None = None

    @property
    def port(self) -> int:
        """Where everything comes from."""
        return int(self._socket.getsockname()[1])

    def send(self, parts: tuple[bytes | memoryview, ...], host: tuple[str, int]) -> None:
        try:
            self._socket.sendmsg(parts, [], 0, host)
        except OSError:  # a datagram that does not go is a lost packet, as on a wire
            pass

    def send_block(self, block: Block, host: tuple[str, int], is_lost: npt.NDArray[np.bool_], delay_ns: float = 0) -> None:
        """Send every packet of a block but those lost, `delay_ns` from one to the next."""
        key = (block.payloads, block.chunk, block.content.size)
        if self._arrays is None or self._arrays.key != key:
            self._arrays = _Arrays(*key)
        self._arrays.put(block, host)
        messages = self._arrays.messages[~is_lost] if is_lost.any() else self._arrays.messages
        at_once = min(_AT_ONCE, max(1, int(_BREATH_NS / delay_ns))) if delay_ns else _AT_ONCE
        due_ns = time.monotonic_ns()
        for first in range(0, len(messages), at_once):
            part = messages[first : first + at_once]
            self._send_all(part)
            due_ns += int(delay_ns * len(part))
            if delay_ns and (wait_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(wait_ns / 1e9)

    def close(self) -> None:
        self._socket.close()

    def _send_all(self, messages: npt.NDArray[np.uint64]) -> None:
        sent = 0
        while sent < len(messages):
            rest = messages[sent:]
            done = _sendmmsg(self._socket.fileno(), rest.ctypes.data, len(rest), 0)
            if done > 0:
                sent += done
            elif ctypes.get_errno() == errno.EBADF:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            elif ctypes.get_errno() != errno.EINTR:
                sent += 1  # the one that would not go is a lost packet
