"""Builders that go wrong, each in its way: `python -m bad_builder`, the way in BAD_BUILDER, in the place of the one that builds."""

from __future__ import annotations

import errno
import os
import signal
import sys

from fake_tensorrt import plan_of

from edge_agent.inference.tensorrt import child

GARBAGE = b'\xff\x00[ {}\n[1, 2]\n{"kind": 3}\nnull\n'


def be_killed(*_: object) -> tuple[bytes, bytes]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def crash(*_: object) -> tuple[bytes, bytes]:
    os.write(2, b"assertion in a library\n")
    os.abort()


def fill(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def print_much(*_: object) -> tuple[bytes, bytes]:
    """As C libraries do: to the descriptor itself, and no end of line before the last word."""
    os.write(1, GARBAGE + b"Using default stream in enqueue.")
    return plan_of(1, 64, 64), b""


def main() -> int:
    way = os.environ["BAD_BUILDER"]
    if way == "deaf":  # it ends without having read its order
        os.close(0)
        return 3
    if way == "garbage":
        sys.stdin.buffer.read()
        os.write(1, GARBAGE)
        return 4
    child.load_library = lambda _: None
    child.build_plan = {"killed": be_killed, "crashed": crash, "prints": print_much, "full": print_much}[way]
    if way == "full":
        child.write_whole = fill
    return child.main()


if __name__ == "__main__":
    sys.exit(main())
