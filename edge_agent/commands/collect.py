"""The datacenter's side: receive results and pictures from stations, store them durably, acknowledge then."""

from __future__ import annotations

import argparse
import faulthandler
import signal
import time
from pathlib import Path

import msgspec

from edge_agent.addresses import PLAINTEXT, Endpoint, is_loopback
from edge_agent.collector.health import Health
from edge_agent.collector.opening import open_store, shown
from edge_agent.collector.receiver import Receiver
from edge_agent.collector.store import Store
from edge_agent.errors import ConfigurationError, EdgeAgentError, UsageError
from edge_agent.events import say
from edge_agent.notify import Watchdog, notify
from edge_agent.security import ServerKeys, read_pair

_RETRY_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bind", required=True, metavar="URL", help="where to listen, for instance tcp://127.0.0.1:5558")
    parser.add_argument("--store", required=True, metavar="DIR_OR_URL", help="a folder, or a database URL")
    parser.add_argument("--crops", metavar="URL", help="where pictures go; by default crops/ in the folder")
    parser.add_argument("--secret-key", type=Path, metavar="FILE", help="encrypt, with the keys of this file; see `keygen`")
    parser.add_argument("--clients", type=Path, metavar="DIR", help="the folder of the stations' keys, STATION.key each")
    parser.add_argument("--allow-plaintext", action="store_true", help="listen beyond this machine without encryption")


def _opened(address: str, crops: str | None, watchdog: Watchdog) -> Store:
    """The store, however long its database or disk is away: both may start later than this. Raises ConfigurationError.

    systemd, which limits a start, is told at the first failure that this one is up, and what it waits for."""
    health = Health()
    while True:
        watchdog.feed()
        try:
            store = open_store(address, crops)
            health.recover()
            return store
        except ConfigurationError:
            raise
        except EdgeAgentError as error:
            health.fail(str(error))
            notify(READY=1, STATUS=f"waiting for the store: {error}")
            time.sleep(_RETRY_S)


def _keys(args: argparse.Namespace) -> ServerKeys | None:
    if args.secret_key is None and args.clients is None:
        return None
    if args.secret_key is None or args.clients is None:
        raise UsageError("--secret-key and --clients go together: our own keys, and those of who may connect.")
    return ServerKeys(read_pair(args.secret_key), args.clients)


def run(args: argparse.Namespace) -> int:
    if "://" not in args.bind:
        raise ConfigurationError(f"--bind {args.bind}: say how, too: tcp://{args.bind}.")
    try:
        msgspec.convert(args.bind, Endpoint)
    except msgspec.ValidationError:
        remedy = "Give it as tcp://ADDRESS:PORT with a port from 1 to 65535."
        raise ConfigurationError(f"--bind {args.bind}: nothing can listen there. {remedy}") from None
    keys = _keys(args)
    if not is_loopback(args.bind) and keys is None and not args.allow_plaintext:
        remedy = "Use 127.0.0.1, encrypt it (--secret-key, --clients), or add --allow-plaintext."
        raise ConfigurationError(f"--bind {args.bind}: {PLAINTEXT} {remedy}")
    if not faulthandler.is_enabled():
        faulthandler.enable()  # the watchdog's SIGABRT leaves a traceback
    watchdog = Watchdog()
    store = _opened(args.store, args.crops, watchdog)
    try:
        receiver = Receiver(args.bind, store, keys)
    except BaseException:
        store.close()
        raise
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: receiver.stop())
    say("collector.started", bind=receiver.endpoint, store=shown(args.store))
    notify(READY=1, STATUS=f"listening on {receiver.endpoint}")
    try:
        receiver.run(watchdog.feed)
    finally:
        notify(STOPPING=1)
        receiver.close()
        store.close()
    say("collector.stopped", rows=receiver.received)
    return 0
