"""Has an engine built in a process of its own, and tells how far it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_agent.errors import UNREADABLE, ConfigurationError, EngineError, EngineUnavailable
from edge_agent.inference.tensorrt.child import Order, Word
from edge_agent.inference.tensorrt.network import Network
from edge_agent.inference.tensorrt.store import NEW, make_folder

Progress = Callable[[str], None]  # what the builder is at; at least every few seconds while it lives
_FOLDER = ".build-"
_SETTLED_S = 60.0  # a younger folder may be one that is not locked yet
_WRITTEN_S = 3600.0  # a younger file may be one that is being written: a slow disk may take an engine for minutes
_CHILD = "edge_agent.inference.tensorrt.child"


def build_aside(
    network: Network,
    timing: Path,
    library: str,
    workspace_mb: int,
    optimization: int,
    progress: Progress,
    *,
    device: int = 0,
    capabilities: tuple[str, ...] = (),
) -> bytes:
    """Return the plan. Blocks for seconds to many minutes.

    Raises ConfigurationError for a network that cannot be built, EngineUnavailable where the GPU, its memory, the library or the
    disk do not suffice, EngineError for a builder that died."""
    try:
        make_folder(timing.parent)
        _sweep(timing.parent)
        with tempfile.TemporaryDirectory(dir=timing.parent, prefix=_FOLDER) as folder, contextlib.ExitStack() as stack:
            stack.callback(os.close, _hold(Path(folder)))
            onnx, plan = Path(folder, "network.onnx"), Path(folder, "plan")
            onnx.write_bytes(network.onnx)
            order = Order(
                onnx=str(onnx),
                plan=str(plan),
                timing=str(timing),
                library=library,
                workspace_mb=workspace_mb,
                optimization=optimization,
                capabilities=capabilities,
                device=device,
            )
            _run(order, progress)
            return plan.read_bytes()
    except OSError as error:
        remedy = _of_another(timing.parent) if isinstance(error, PermissionError) else "Free space there, or make it writable."
        raise EngineUnavailable(f"{timing.parent} cannot hold an engine: {error.strerror}. {remedy}") from None


def _hold(folder: Path) -> int:
    """Lock the folder for as long as this process lives, or until the descriptor is closed; return that."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def _sweep(folder: Path) -> None:
    """Delete what builds left whose process was killed, half written engines too: a service killed again and again would fill its
    disk with them."""
    for left in folder.glob(f"{_FOLDER}*"):
        with contextlib.suppress(OSError):  # locked: under way
            if time.time() - left.stat().st_mtime > _SETTLED_S:
                os.close(_hold(left))
                shutil.rmtree(left, ignore_errors=True)
    for file in folder.glob(f"{NEW}*"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > _WRITTEN_S:
                file.unlink()


def _of_another(folder: Path) -> str:
    """What to do about a folder that this user may not write to."""
    there = next(each for each in (folder, *folder.parents) if os.path.exists(each))  # noqa: PTH110  # that one never raises
    return (
        f"{there} belongs to {_user(there.stat().st_uid)}, this is {_user(os.geteuid())}: run this as root or as the user whose "
        "state folder it is; what is not that user's there, give back with chown -R."
    )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _run(order: Order, progress: Progress) -> None:
    """Run the builder to its end. Raises what its last word means."""
    with tempfile.TemporaryFile() as errors:
        command = [sys.executable, "-m", _CHILD]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=_seeing(order.device))
        last = _listen(child, order, progress)
        errors.seek(0, os.SEEK_END)
        errors.seek(max(0, errors.tell() - 400))
        said = errors.read().decode(errors="replace").strip()
    _require_done(last, child.returncode, said)


def _seeing(device: int) -> dict[str, str]:
    """The environment in which that GPU is the first, which a builder takes."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else []
    chosen = names[device] if device < len(names) else str(device)
    return {**os.environ, "CUDA_VISIBLE_DEVICES": chosen}


def _listen(child: subprocess.Popen[bytes], order: Order, progress: Progress) -> Word:
    """Give the order, pass on the progress, return the last word when the builder has ended."""
    assert child.stdin and child.stdout
    last = Word(kind="died")
    try:
        with contextlib.suppress(BrokenPipeError), child.stdin as stdin:  # one that is dead already is told of at the end
            stdin.write(msgspec.json.encode(order))
        for line in child.stdout:
            word = _read(line)
            if word is None:
                continue
            if word.kind in ("progress", "alive"):
                progress(f"{word.text} {word.step}/{word.steps}" if word.text else "")
            else:
                last = word
    finally:
        child.kill()
        child.stdout.close()
        child.wait()
    return last


def _read(line: bytes) -> Word | None:
    """A line of the builder's; None for what its library printed."""
    try:
        return msgspec.json.decode(line, type=Word)
    except UNREADABLE:
        return None


def _require_done(last: Word, code: int, said: str) -> None:
    """Raises what the last word means; OSError of a disk that did not take what was built."""
    if last.kind == "done":
        return
    if last.kind == "model":
        raise ConfigurationError(last.text)
    if last.kind == "unavailable":
        raise EngineUnavailable(last.text)
    if last.kind == "failed":
        raise EngineError(last.text)
    if last.kind == "disk":
        raise OSError(0, last.text)
    why = f"signal {-code}" if code < 0 else f"exit code {code}"
    hint = " Exit by signal 9 is mostly want of memory: free some, or lower engine.workspace_mb." if code == -9 else ""
    raise EngineUnavailable(f"the builder ended by {why} before the engine was there: {said or 'it said nothing'}.{hint}")
