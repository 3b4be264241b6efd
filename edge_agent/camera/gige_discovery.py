"""Asks one address whether a GigE Vision camera is there, in one datagram, which is answered whoever holds the camera.

Source: GigE Vision 2.0, 16.3 (DISCOVERY_CMD and DISCOVERY_ACK).
"""

from __future__ import annotations

import socket
import struct

_PORT = 3956
_KEY, _ANSWER_REQUIRED, _DISCOVERY, _DISCOVERY_ACK = 0x42, 0x01, 0x0002, 0x0003
_ID = 1
_HEADER = struct.Struct(">HHHH")  # of the answer: status, command, length, id
_PLACES = {"vendor": (72, 32), "model": (104, 32), "serial": (216, 16)}  # in the answer's payload
_PAYLOAD_BYTES = 248


def discover(address: str, timeout_s: float = 1.0) -> dict[str, str] | None:
    """What the camera at the address says it is: vendor, model, serial; None where none answers."""
    question = struct.pack(">BBHHH", _KEY, _ANSWER_REQUIRED, _DISCOVERY, 0, _ID)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.settimeout(timeout_s)
        try:
            asked.connect((address, _PORT))
            asked.send(question)
            answer = asked.recv(2048)
        except OSError:
            return None
    if len(answer) < _HEADER.size + _PAYLOAD_BYTES:
        return None
    status, command, _, number = _HEADER.unpack_from(answer)
    if (status, command, number) != (0, _DISCOVERY_ACK, _ID):
        return None
    payload = answer[_HEADER.size :]
    return {key: _text(payload[start : start + length]) for key, (start, length) in _PLACES.items()}


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", errors="replace").strip()
