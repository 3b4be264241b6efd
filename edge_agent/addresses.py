"""Addresses of sockets as they stand in settings and on command lines: what they look like, and who can reach them."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

_PORT = r"(\*|[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])"
_ENDPOINT = rf"^(tcp://(\[[0-9A-Fa-f:.]+\]|[^:/\[\]\s]+):{_PORT}|ipc://.+)$"
_ADDRESS = "an address, tcp://HOST:PORT with a port from 1 to 65535, or ipc://PATH"
Endpoint = Annotated[str, msgspec.Meta(pattern=_ENDPOINT, description=_ADDRESS)]
_LOOPBACK = re.compile(r"^(tcp://(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:(\d+|\*))?$|ipc://)")
PLAINTEXT = "anybody on that network could read and forge what goes over it."


def is_loopback(endpoint: str) -> bool:
    """True for an address that does not leave this machine."""
    return bool(_LOOPBACK.match(endpoint))


def are_one(endpoint: str, other: str) -> bool:
    """True where one of two that listen would leave nothing to the other."""
    (host, port), (other_host, other_port) = (_host_and_port(each) for each in (endpoint, other))
    return port == other_port not in ("*", "0") and (host == other_host or "*" in (host, other_host))


def of_host(host: str, port: int | None = None) -> str:
    """tcp://HOST, or tcp://HOST:PORT, with the brackets that an IPv6 address needs."""
    name = f"[{host}]" if ":" in host else host
    return f"tcp://{name}" if port is None else f"tcp://{name}:{port}"


def _host_and_port(endpoint: str) -> tuple[str, str]:
    """Of ipc:// the path and ''. Every address of this machine is `*`."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":") if endpoint.startswith("tcp://") else (endpoint, "", "")
    return {"localhost": "127.0.0.1", "0.0.0.0": "*", "[::]": "*"}.get(host, host), port
