"""The server's end of a connection, without a station: what it refuses by itself, and how long it waits for a peer."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_agent.fieldbus.connections import Connection, Server

DEVICE = SimDevice(id=0, simdata=[SimData(0, count=10, values=0, datatype=DataType.REGISTERS)])


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A server of ten registers, and one connection to it: its end, and the PLC's."""
    there: asyncio.Queue[Any] = asyncio.Queue()
    server = Server(DEVICE, "127.0.0.1", 0, lambda connection, is_there: there.put_nowait(connection))
    await server.serve_forever(background=True)
    reader, writer = await asyncio.open_connection(*server.transport.sockets[0].getsockname())
    try:
        yield await there.get(), reader, writer
    finally:
        writer.close()
        await server.shutdown()


def test_a_peer_without_power_is_waited_for_five_seconds_whether_it_owes_a_receipt_or_not() -> None:
    async def options() -> dict[int, int]:
        async with connected() as (connection, _, _):
            own = connection.transport.get_extra_info("socket")
            assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            return {name: own.getsockopt(socket.IPPROTO_TCP, name) for name in names}

    told = asyncio.run(options())
    assert told[socket.TCP_KEEPIDLE] + told[socket.TCP_KEEPINTVL] * told[socket.TCP_KEEPCNT] == 5
    assert told[socket.TCP_USER_TIMEOUT] == 5000


@pytest.mark.parametrize(
    "request_",
    [
        b"\x01\0\0\0\x01",  # read coils
        b"\x05\0\0\xff\0",  # write a coil
        b"\x07",  # read exception status
        b"\x08\0\x04\0\0",  # diagnosis: listen only from now on
        b"\x11",  # report server id
        b"\x15\x09\x06\0\x04\0\x01\0\x01\0\0",  # write a file
        b"\x16\0\0\xff\xff\0\x01",  # mask write
        b"\x2b\x0e\x01\0",  # read device identification
    ],
)
def test_a_function_that_is_not_for_registers_is_refused(request_: bytes) -> None:
    async def answer() -> bytes:
        async with connected() as (_, reader, writer):
            writer.write(struct.pack(">HHHB", 7, 0, len(request_) + 1, 3) + request_)
            return await asyncio.wait_for(reader.readexactly(9), 5)

    assert asyncio.run(answer()) == struct.pack(">HHHBBB", 7, 0, 3, 3, request_[0] | 0x80, 1)


def test_an_address_that_no_interface_has_is_awaited() -> None:
    """192.0.2.0/24 is nobody's (RFC 5737)."""

    async def address() -> str:
        server = Server(DEVICE, "192.0.2.7", 0, lambda connection, is_there: None)
        await server.serve_forever(background=True)
        name = server.transport.sockets[0].getsockname()
        await server.shutdown()
        return str(name[0])

    assert asyncio.run(address()) == "192.0.2.7"
