"""How the process itself runs: whose turn it is, on which core, when garbage is collected, what its signals mean."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType

import cv2

from edge_agent.errors import FULL, ConfigurationError, EdgeAgentError, remedy_within
from edge_agent.events import say
from edge_agent.settings import AutoEngine, CpuEngine, StationSettings, ThreadWish

SWITCH_INTERVAL_S = 0.0005  # a busy Python thread otherwise holds back the publisher for another 5 ms
GC_THRESHOLDS = (50_000, 20, 100)
_LOCK = "lock"  # in the state folder
_ALLOWED = os.sched_getaffinity(0)


def prepare() -> None:
    """Before anything is opened: short turns for Python threads; no threads of OpenCV's, whose cores belong to the engine."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    cv2.setNumThreads(1)


def settle(threads: Iterable[threading.Thread], core: int | None) -> None:
    """When everything is open: leave what the start made out of every later garbage collection, and collect rarely, since a
    part makes no cycles; and gather the threads on `core`, where the interpreter lock passes among them without waking
    another core and what they share stays in one cache."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    _name_threads()
    for thread in threads:
        if core is not None and thread.native_id is not None:
            with contextlib.suppress(ProcessLookupError):  # a short run: it has ended already
                os.sched_setaffinity(thread.native_id, {core})


def _name_threads() -> None:
    """For `top -H` and `ps -L`, which otherwise show the program's name for each; the kernel keeps 15 letters."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            with contextlib.suppress(OSError):  # it has ended already
                Path(f"/proc/self/task/{thread.native_id}/comm").write_text(thread.name[:15])


def favour(threads: Iterable[threading.Thread], wish: ThreadWish) -> None:
    """Give running threads the cores and the real-time priority that the settings wish; what the kernel refuses is said."""
    for thread in threads:
        if thread.native_id is None:
            continue
        try:
            if wish.cpu:
                os.sched_setaffinity(thread.native_id, wish.cpu)
            if wish.priority:
                os.sched_setscheduler(thread.native_id, os.SCHED_FIFO, os.sched_param(wish.priority))
        except ProcessLookupError:
            continue  # a short run: it has ended already
        except OSError as error:
            say("station.wish_refused", thread=thread.name, cpu=wish.cpu, priority=wish.priority, why=str(error.strerror))


def machine_id() -> str:
    """What tells this machine from every other; '' where it has no such name."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except (OSError, UnicodeError):
        return ""


def listen(stop: threading.Event) -> None:
    """Signals that ask for an end set this; for the main thread."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        say("station.stopping", signal=signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


@contextlib.contextmanager
def lent_signals(stop: Callable[[], None]) -> Iterator[None]:
    """For a daemon within a command: a closed terminal stops it, too, and afterwards the signals are the command's own again."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    if before[signal.SIGHUP] is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, lambda *_: stop())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen_for_reload(reload: threading.Event) -> None:
    """The signal that asks to read the settings anew sets this; for the main thread, before the start, which it would end."""
    if not sys.stdin or not sys.stdin.isatty():  # there a closed terminal is to end it, as ever
        signal.signal(signal.SIGHUP, lambda *_: reload.set())


def unbind() -> None:
    """Let the calling thread run anywhere again: a thread inherits the core of the one that started it. Where none of the start's
    cores are left (`AllowedCPUs=` of a service that runs), it stays where it is."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, _ALLOWED)


def own_seconds() -> float:
    """CPU time of this process so far, less what threads of foreign libraries computed: the engine's. ZeroMQ's count as ours."""
    ours = {thread.native_id for thread in threading.enumerate()}
    foreign_ns = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            if int(task.name) not in ours and not (task / "comm").read_text().startswith("ZMQbg"):
                foreign_ns += int((task / "schedstat").read_text().split()[0])
    return time.process_time() - foreign_ns / 1e9


def choose_core(settings: StationSettings) -> int | None:
    """The core for the Python threads; None leaves it to the kernel.

    `auto` takes the last core this process may use, where one line runs beside an engine that computes elsewhere: an engine
    on the same cores, or the pictures of many lines, need them all. Raises ConfigurationError for a core that is not there."""
    allowed = sorted(_ALLOWED)
    wanted = settings.python_core
    if wanted == "any":
        return None
    if wanted == "auto":
        is_alone = len(settings.lines) == 1 and not isinstance(settings.engine, (CpuEngine, AutoEngine))
        return allowed[-1] if is_alone and len(allowed) > 1 else None
    if wanted not in allowed:
        message = f"is {wanted}, which is none of the cores this process may use ({_told(allowed)})."
        raise ConfigurationError.of(message, "name one of them, or auto.", key="python_core")
    return wanted


def _told(cores: list[int]) -> str:
    return ", ".join(map(str, cores))


class StateLock:
    """Holds a state folder for one process. The kernel lets go of it with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        """Raises EdgeAgentError where another process holds the folder, or it cannot be made."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(folder / _LOCK, "a+", errors="replace")  # noqa: SIM115  # held open for as long as the process works there
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # locked, too: its file may be removed meanwhile
        except OSError as error:
            raise _unusable(folder, error) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _lock_folder(self._folder)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self.close()
            raise EdgeAgentError(
                f"the state folder {folder} is in use by process {holder}. Stop that daemon, or give this one a `state` of its own."
            ) from None
        try:
            os.ftruncate(self._file.fileno(), 0)
            os.write(self._file.fileno(), str(os.getpid()).encode())
        except OSError as error:
            if error.errno not in FULL:  # a full disk takes no number, and holds up no start
                self.close()
                raise _unusable(folder, error) from None

    def close(self) -> None:
        self._file.close()
        os.close(self._folder)


def _lock_folder(folder: int) -> None:
    """Raises BlockingIOError where another process has it. A file system that locks no folders (NFS) does not."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return


def _unusable(folder: Path, error: OSError) -> EdgeAgentError:
    return EdgeAgentError(f"the state folder {folder} cannot be used: {folder / _LOCK}: {error.strerror}. {remedy_within(error)}")
