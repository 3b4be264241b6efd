"""The server's end of a connection, without a station: what it refuses by itself, and how long it waits for a peer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymodbus.simulator import DataType, SimData, SimDevice

from edge_agent.fieldbus.connections import Connection, Server


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A server of ten registers, and one connection to it: its end, and the PLC's."""
    there: asyncio.Queue[Any] = asyncio.Queue()
    device = SimDevice(id=0, simdata=[SimData(0, count=10, values=0, datatype=DataType.REGISTERS)])
    server = Server(device, "127.0.0.1", 0, lambda connection, is_there: there.put_nowait(connection))
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
