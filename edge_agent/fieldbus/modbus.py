"""A Modbus TCP server whose registers are an exchange's, on the caller's event loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from edge_agent.errors import ConfigurationError, EdgeAgentError
from edge_agent.events import say
from edge_agent.fieldbus.exchange import Exchange
from edge_agent.fieldbus.registers import COMMANDS_AT, COMMANDS_SIZE, SIZE, decode
from edge_agent.wire import Request

Ask = Callable[[Iterable[Request]], None]


class ModbusServer:
    """Serves one exchange. `ask` is called on the event loop with what the PLC's commands want of the station.

    Whoever connects may read; the PLC is the connection that wrote last, and begins anew with its first write: what was held up or
    unread before is no concern of its own."""

    def __init__(self, exchange: Exchange, lock: threading.Lock, ask: Ask, *, low_word_first: bool = False) -> None:
        self._exchange, self._lock, self._ask = exchange, lock, ask
        self._low_word_first = low_word_first
        self._clients = 0
        self._plc: object = None
        self._server: Any = None

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Take connections from now on; return host and port. Raises EdgeAgentError where the address is taken."""
        try:
            from pymodbus.constants import ExcCodes
            from pymodbus.simulator import DataType, SimData, SimDevice

            from edge_agent.fieldbus.connections import Server, speaking
        except ImportError as error:
            raise ConfigurationError(f"pymodbus cannot be loaded: {error}. Install it: pip install 'edge-agent[plc]'.") from None
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what it has to say is the PLC's to hear, as an exception code
        words = [SimData(0, count=COMMANDS_AT + COMMANDS_SIZE, values=0, datatype=DataType.REGISTERS)]
        device = SimDevice(id=0, simdata=words, action=self._access)
        self._speaking, self._illegal_address = speaking, ExcCodes.ILLEGAL_ADDRESS
        try:
            self._server = Server(device, host, port, self._connected)
            await self._server.serve_forever(background=True)
        except (OSError, RuntimeError):
            remedy = "Is something else listening there? A port below 1024 takes root, or CAP_NET_BIND_SERVICE."
            raise EdgeAgentError(f"cannot listen on {host}:{port}. {remedy}") from None
        name = self._server.transport.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def close(self) -> None:
        """Let all clients go."""
        if self._server is not None:
            await self._server.shutdown()

    async def _access(
        self, _function: int, _start: int, address: int, _count: int, registers: list[int], written: list[int] | list[bool] | None
    ) -> Any:
        """Called by pymodbus before each read, which sees what this puts into the registers, and before each write; returns the
        code of an exception, or None."""
        now_s = time.monotonic()
        if written is None:
            with self._lock:
                registers[:SIZE] = self._exchange.registers(now_s)
            return None
        if address < COMMANDS_AT:
            return self._illegal_address
        with self._lock:
            if self._speaking() is not self._plc:
                self._begin_anew(self._speaking(), registers)
            after = [*registers]
            after[address : address + len(written)] = map(int, written)
            asked = self._exchange.written(decode(after[COMMANDS_AT:], low_word_first=self._low_word_first), now_s)
        self._ask(asked)
        return None

    def _begin_anew(self, plc: object, registers: list[int]) -> None:
        self._exchange.gone()
        registers[COMMANDS_AT:] = [0] * COMMANDS_SIZE
        self._plc = plc

    def _connected(self, connection: object, is_there: bool) -> None:
        self._clients += 1 if is_there else -1
        say("modbus.connected" if is_there else "modbus.disconnected", clients=self._clients)
        is_first_or_last = self._clients == int(is_there)
        if is_first_or_last or (connection is self._plc and not is_there):
            with self._lock:
                self._exchange.gone()
            self._plc = None
