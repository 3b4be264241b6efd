"""Listening at an address that this machine does not have yet: after a power cut a station is up before its network is."""

from __future__ import annotations

import errno
import ipaddress
import socket as socketlib

import zmq

from edge_agent.events import say

_FREEBIND = {
    socketlib.AF_INET: (socketlib.IPPROTO_IP, 15),  # IP_FREEBIND, <linux/in.h>
    socketlib.AF_INET6: (socketlib.IPPROTO_IPV6, 78),  # IPV6_FREEBIND, <linux/in6.h>
}
_BACKLOG = 100  # as ZeroMQ's own


def await_address(listener: socketlib.socket, endpoint: str) -> None:
    """Let a TCP socket be bound to an address that no interface has, and say so. It takes connections as soon as one has it."""
    listener.setsockopt(*_FREEBIND[socketlib.AddressFamily(listener.family)], 1)
    say("network.address_awaited", address=endpoint)


def is_here(endpoint: str) -> bool:
    """False for tcp://ADDRESS:PORT where no interface of this machine has the address now."""
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        family = socketlib.AF_INET if ipaddress.ip_address(host).version == 4 else socketlib.AF_INET6
        with socketlib.socket(family, socketlib.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except ValueError:  # every address, an interface or a path
        return True
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def bind(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Listen there, from now on or from when an interface has the address. Raises ZMQError."""
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        try:
            socket.setsockopt(zmq.USE_FD, listen_early(endpoint).detach())
        except OSError as why:
            raise zmq.ZMQError(why.errno) from None
        socket.bind(endpoint)


def listen_early(endpoint: str) -> socketlib.socket:
    """A socket that listens at tcp://ADDRESS:PORT, from when an interface has the address. Raises OSError."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    listener = socketlib.socket(socketlib.AF_INET, socketlib.SOCK_STREAM | socketlib.SOCK_NONBLOCK)
    try:
        await_address(listener, endpoint)
        listener.setsockopt(socketlib.SOL_SOCKET, socketlib.SO_REUSEADDR, 1)
        listener.bind((host, 0 if port == "*" else int(port)))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
