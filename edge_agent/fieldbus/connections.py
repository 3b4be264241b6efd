"""pymodbus's TCP server, which tells by which connection a request came, ends those whose peer is gone, and awaits its address."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ExceptionResponse
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import SimDevice

from edge_agent.addresses import of_host
from edge_agent.listening import is_here, listen_early

Connected = Callable[[object, bool], None]  # a connection, and whether it is there now

_SPEAKING: ContextVar[object] = ContextVar("speaking", default=None)
# Functions that read and write registers. Of bits these registers are none; diagnoses, files and the rest are pymodbus's own.
_FUNCTIONS = frozenset({3, 4, 6, 16, 23})
# A PLC without power says no goodbye: five seconds after its last word its connection is gone. The kernel asks after a peer that
# owes nothing (KEEP...); of one that was just being answered it only waits for the receipt (USER_TIMEOUT, ms).
_PATIENCE = {socket.TCP_KEEPIDLE: 2, socket.TCP_KEEPINTVL: 1, socket.TCP_KEEPCNT: 3, socket.TCP_USER_TIMEOUT: 5000}


class Server(ModbusTcpServer):
    """Raises OSError where it cannot listen at an address that no interface has yet."""

    def __init__(self, device: SimDevice, host: str, port: int, connected: Connected) -> None:
        super().__init__(device, address=(host, port))
        endpoint = of_host(host, port)
        if not is_here(endpoint):
            self.call_create = partial(self.loop.create_server, self.handle_new_connection, sock=listen_early(endpoint))
        self.connected = connected

    def callback_new_connection(self) -> Connection:
        return Connection(self)


class Connection(ServerRequestHandler):
    def __init__(self, server: Server) -> None:
        super().__init__(server, None, None, None)  # type: ignore[no-untyped-call]
        self._connected = server.connected

    def callback_connected(self) -> None:
        super().callback_connected()
        own: Any = self.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _PATIENCE.items():
            own.setsockopt(socket.IPPROTO_TCP, option, value)
        self._connected(self, True)

    def callback_disconnected(self, exc: Exception | None) -> None:
        super().callback_disconnected(exc)
        self._connected(self, False)

    async def handle_request(self) -> None:
        _SPEAKING.set(self)  # each request has a task of its own, and with it a context
        request = self.last_pdu
        if request is None or request.function_code in _FUNCTIONS:
            await super().handle_request()  # type: ignore[no-untyped-call]
            return
        refusal = ExceptionResponse(request.function_code, ExcCodes.ILLEGAL_FUNCTION, request.dev_id, request.transaction_id)
        self.server_send(refusal, self.last_addr)  # type: ignore[no-untyped-call]


def speaking() -> object:
    """The connection whose request is being answered."""
    return _SPEAKING.get()
