"""The command line: picks one command, turns an error into an exit code.

Exit codes: 0 well, 2 usage, 78 configuration or model that will never work, 1 anything else.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from edge_agent import __version__
from edge_agent.errors import EXIT_FAILURE, EXIT_OK, EXIT_USAGE, FULL, ConfigurationError, EdgeAgentError, remedy_of
from edge_agent.events import configure_logging
from edge_agent.logwriter import complain

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its threads have nothing to do here, and wait busily

_INTERRUPTED = 130  # as shells tell it
COMMANDS = {
    "run": "inspect: the daemon itself",
    "demo": "see the whole station work on drawn parts, in a minute",
    "replay": "run a folder of images through the very same line",
    "check": "the doctor: settings, recipes, models and machine; every find with its remedy",
    "describe-model": "write a first model.yaml for an ONNX file",
    "events": "every event the log can have, with its remedy",
    "watch": "show verdicts live",
    "control": "ask the daemon: status, trigger, recipe, reload, mode",
    "counters": "what shift and lot came to; begin anew",
    "challenge": "prove with master parts that bad ones still come out NG",
    "trigger": "have the daemon take a part now",
    "cameras": "list the cameras within reach, each with the line for the settings",
    "capture": "save pictures of one camera, for a dataset",
    "keygen": "make the keys by which station, PLC and datacenter know each other",
    "modbus": "be a Modbus TCP server for the PLC of a line",
    "collect": "the datacenter's side: receive and store results and pictures",
    "draw-parts": "draw a set of labelled parts in the layout of DAGM 2007",
    "simulate-camera": "be a GigE Vision camera, with faults on demand",
    "build-engine": "build the GPU's engines ahead of the station's start",
    "evaluate": "judge a model on labelled images: slips, false rejects, thresholds",
    "calibrate": "make a model cheaper (FP16, INT8), where its verdicts stay",
    "benchmark": "measure the station: plumbing, station, camera, metrics, engine",
}


_DECIDING = ("check", "challenge", "calibrate")  # an exit code of 0 says that all is well: not of what was left half way
_Run = Callable[[argparse.Namespace], int]


class Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """After each option its default, where it has one that says something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default is False or action.default in (None, "", [])
        return action.help if says_nothing else super()._get_help_string(action)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of what stands before and at the command; only the chosen command's module is imported."""
    listing = "\n".join(f"  {name:<15} {meaning}" for name, meaning in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="An edge inspection station.",
        epilog=f"commands:\n{listing}\n\n`edge-agent COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], help="info, but for judging folders: warning")
    parser.add_argument("command", metavar="COMMAND", choices=list(COMMANDS), help="one of the commands below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    _open_closed_streams()
    arguments = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    if not arguments:
        parser.print_help()
        return EXIT_USAGE
    chosen = parser.parse_args(arguments)
    module = _imported(f"edge_agent.commands.{chosen.command.replace('-', '_')}")
    configure_logging(chosen.log_level or getattr(module, "LOG_LEVEL", "info"))
    command = argparse.ArgumentParser(prog=f"edge-agent {chosen.command}", description=module.__doc__, formatter_class=Defaults)
    module.add_arguments(command)
    tell_traceback = chosen.command == "run" or chosen.log_level == "debug"
    parsed = command.parse_intermixed_args(chosen.rest)
    if chosen.command == "run":  # what a start has open the next one mends, and an engine that opens may take minutes to let go
        return _guarded(module.run, parsed, tell_traceback)
    with _tidy_end():
        return _guarded(module.run, parsed, tell_traceback, unread=EXIT_FAILURE if chosen.command in _DECIDING else EXIT_OK)


class _Ended(BaseException):
    """A signal asks for the end: on its way up everything that is open is closed, as with Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _tidy_end() -> Iterator[None]:
    """SIGTERM and a closed terminal end the process as ever, but leave no folder in /tmp and no process that it started."""
    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]  # not of nohup
    for each in numbers:
        signal.signal(each, _end)
    try:
        yield
    except _Ended as ended:
        signal.signal(ended.number, signal.SIG_DFL)
        signal.raise_signal(ended.number)
    finally:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else signal.SIG_DFL)  # a terminal and its shell both send it
    raise _Ended(number)


def _imported(name: str) -> Any:
    """A module. Ctrl-C meanwhile ends the process at once: nothing is open yet, and a library that is imported may catch it."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # of a shell's background, which Ctrl-C is not for
        return importlib.import_module(name)
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    try:
        return importlib.import_module(name)
    finally:
        signal.signal(signal.SIGINT, before)


def _open_closed_streams() -> None:
    """Standard streams that were closed are /dev/null: else the next file opened, the journal of parts for one, would have the
    number of one, and what a library prints would go there."""
    for mode, name in (("r", "stdin"), ("w", "stdout"), ("w", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # the lowest number that is free


def _guarded(run: _Run, arguments: argparse.Namespace, tell_traceback: bool = False, unread: int = EXIT_OK) -> int:
    """Run a command; return its exit code, and where nobody reads on what it prints (`| head`), `unread`."""
    try:
        return run(arguments)
    except ConfigurationError as error:
        for problem in error.problems:
            complain(str(problem))
        return error.exit_code
    except EdgeAgentError as error:
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return unread
    except OSError as error:
        if tell_traceback or (error.filename is None and error.errno not in FULL):  # no file's: nobody foresaw it
            _admit(error)
            raise
        file = "writing" if error.filename is None else os.fsdecode(error.filename)
        complain(f"{file}: {error.strerror}. Remedy: {remedy_of(error)}")
        return EXIT_FAILURE
    except Exception as error:
        _admit(error)
        raise


def _admit(error: Exception) -> None:
    """Say in one line, which the journal keeps as an error's, what nobody foresaw; the traceback below it has no priority there."""
    complain(f"{type(error).__name__}: {error}. Nobody foresaw this. Remedy: report it with the traceback that follows.")
