"""The link between outbox and collector: what goes over it, for both ends.

HELLO names the stream; WELCOME answers with the last row the collector has, and the credit; DATA carries a row and the
number of the row before it, so that a gap is seen; ACK confirms everything up to a row, after a durable commit.
"""

from __future__ import annotations

import zlib

import msgspec

from edge_agent.errors import UNREADABLE, DeliveryError

HELLO, WELCOME, DATA, ACK = b"H", b"W", b"D", b"A"
SHIPPING_VERSION = 1
HEARTBEAT_IVL_MS, HEARTBEAT_TIMEOUT_MS = 500, 1500
MOST_MESSAGE_BYTES = 64 << 20


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """A device's first word on every connection."""

    station: str
    stream: str
    v: int = SHIPPING_VERSION


class Credit(msgspec.Struct, frozen=True, kw_only=True):
    """WELCOME and ACK: everything up to row `upto` is stored; so many rows and bytes may be under way beyond it."""

    upto: int
    rows: int
    bytes: int


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The header of one row; body and data follow as frames. `before` is the row shipped before this one."""

    seq: int
    before: int
    kind: str
    crc: int


def crc_of(body: bytes, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(body))


_HELLO = msgspec.msgpack.Decoder(Hello)
_CREDIT = msgspec.msgpack.Decoder(Credit)
_DATA = msgspec.msgpack.Decoder(Data)
pack = msgspec.msgpack.Encoder().encode


def read_hello(body: bytes) -> Hello:
    """Raises DeliveryError for one that cannot be read, and for a version other than this."""
    try:
        hello = _HELLO.decode(body)
    except UNREADABLE as error:
        raise DeliveryError(f"not a HELLO: {error}") from None
    if hello.v != SHIPPING_VERSION:
        older = "station" if hello.v < SHIPPING_VERSION else "collector"
        raise DeliveryError(
            f"station {hello.station[:80]} ships by version {hello.v}, this collector by {SHIPPING_VERSION}. Update the {older}; "
            "the station keeps its rows until then."
        )
    return hello


def read_credit(body: bytes) -> Credit:
    try:
        return _CREDIT.decode(body)
    except UNREADABLE as error:
        raise DeliveryError(f"not a WELCOME or ACK: {error}") from None


def read_data(header: bytes, body: bytes, data: bytes) -> Data:
    """Raises DeliveryError for a header that cannot be read and for a wrong CRC-32."""
    try:
        read = _DATA.decode(header)
    except UNREADABLE as error:
        raise DeliveryError(f"not a DATA header: {error}") from None
    if crc_of(body, data) != read.crc:
        raise DeliveryError(f"row {read.seq} has a wrong CRC-32")
    return read
