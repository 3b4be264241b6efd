"""The table of log events: name, level, meaning, remedy. What is not in the table cannot be logged."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from edge_agent.logwriter import LEVELS, Writer, configure, write


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that may be said in the log. What may come in crowds has `sums`: it is told once a second at most, with these
    of its values summed; `count` counts one for each that has none."""

    level: str
    meaning: str
    remedy: str = ""
    sums: tuple[str, ...] = ()


UNPASSABLE = "ask for a recipe with the rules that the master parts name, or mend their reasons in the settings and start again"
_CHALLENGE = "mend the line, then bring its master parts: edge-agent challenge --line LINE --part PART"

EVENTS: dict[str, Event] = {
    "station.started": Event("info", "the daemon has read its settings and opened its rooms"),
    "station.stopping": Event("info", "a stop was asked for; parts in flight are being finished"),
    "station.stopped": Event("info", "everything is closed; the counters are final"),
    "station.thread_failed": Event("error", "a thread ended by an unexpected error; the daemon stops", "report the traceback"),
    "station.stalled": Event(
        "error", "a thread does not get on; systemd's watchdog ends the daemon", "report the traceback that follows"
    ),
    "station.stall_ended": Event("info", "the thread gets on again"),
    "station.given_up": Event(
        "warning",
        "a stop has no time left for `what`; `why` says what becomes of it",
        "look at what holds it up: the disk",
    ),
    "station.wish_refused": Event("warning", "a thread runs without its cores or priority", "LimitRTPRIO=, or mend threads.*"),
    "station.reloaded": Event("info", "settings, recipes and models were read again; `changed` lines judge by new ones"),
    "station.reload_refused": Event("error", "what was read again cannot be used; everything stays as it was", "see `why`"),
    "station.restart_needed": Event(
        "warning", "`settings` differ from those of the start and are no recipes; they count at the next start", "restart"
    ),
    "line.unproven": Event(
        "warning", "no golden pictures prove recipe and model before the first part", "give golden in the recipe"
    ),
    "line.ready": Event("info", "the line judges parts"),
    "line.not_ready": Event("warning", "the line cannot judge parts; triggers come out as FAULT not_ready", "see `why`"),
    "line.mode_changed": Event("info", "the line was set online, offline or shadow over the control socket"),
    "line.recipe_changed": Event("info", "a new recipe judges the parts from here on"),
    "line.recipe_refused": Event("error", "the new recipe cannot be used; the old one stays", "mend the recipe named"),
    "line.asked_kept": Event(
        "info", "what was asked for over the control socket stands, not what the settings name: they name the same as then"
    ),
    "line.recipe_gone": Event(
        "error",
        "the recipe asked for before the start cannot be used any more; the line is offline, with the settings' one",
        "ask for a recipe, then set the line online",
    ),
    "line.unverified": Event("warning", "nobody counts the line's triggers beside the camera", "set cameras.*.counter"),
    "line.recipe_unfit": Event("error", "frames of this size do not fit the recipe; their parts are FAULT bad_frame", "see `why`"),
    "line.ng_in_a_row": Event(
        "warning", "as many NG in a row as the recipe allows", "look at the process before the camera", sums=("count",)
    ),
    "line.ng_run_ended": Event("info", "a part passed after a run of NG", sums=("count",)),
    "part.judged": Event("info", "one part has its outcome, with its times"),
    "part.left_out": Event("info", "so many parts of the last second have no line of their own: `log.parts_per_s`"),
    "part.discarded": Event("debug", "a result came after its part had its outcome, and was discarded"),
    "part.interrupted": Event("warning", "a part of the last run had no outcome; it is now FAULT interrupted"),
    "part.failed": Event(
        "error", "an unexpected error while judging a part; it is FAULT internal", "report the traceback", sums=("count",)
    ),
    "camera.failed": Event(
        "error", "the camera does not deliver, said once for each cause; it is opened again with back-off", "do what `why` asks for"
    ),
    "camera.lost": Event("warning", "parts get no usable picture; each is a FAULT with this reason", "see `why`", sums=("count",)),
    "camera.hangs": Event("error", "the camera's driver does not return; its frame slots are never used again", "restart"),
    "camera.recovered": Event("info", "the camera delivers again"),
    "engine.failed": Event(
        "error", "the engine failed or gave an impossible map; the part is FAULT engine", "see `why`", sums=("count",)
    ),
    "engine.unavailable": Event("error", "the engine cannot be had; its lines are not ready; it is tried again", "see `why`"),
    "engine.available": Event("info", "the engine that was missing is there; its lines judge parts"),
    "engine.fallback": Event(
        "warning",
        "TensorRT cannot be used: the CPU judges the parts, much slower",
        "see `why`, and docs/gpu.md",
    ),
    "engine.lost": Event(
        "error",
        "the GPU failed under way; the process ends, to be started again",
        "see `why`, and docs/gpu.md",
    ),
    "engine.building": Event("info", "an engine is built for this GPU, which may take minutes"),
    "engine.build_goes_on": Event("info", "the engine is still being built"),
    "engine.built": Event("info", "the engine is built, agrees with the CPU and is stored"),
    "engine.refused": Event("warning", "a stored engine is damaged or foreign; it is built again", "see `why`"),
    "engine.unverified": Event(
        "warning", "a built engine could not be held against the CPU's maps", "pip install 'edge-agent[cpu]'"
    ),
    "engine.not_stored": Event(
        "warning", "a built engine cannot be stored; the next start builds it again", "free space in `state`"
    ),
    "engine.slower": Event("warning", "the engine works, but slower than it could", "see `why`"),
    "engine.model_doubtful": Event("warning", "the model can run, but something speaks against its papers", "see `why`"),
    "engine.choice_used": Event("info", "a calibrated engine judges, which passed the gate on this station"),
    "engine.choice_refused": Event(
        "error", "the station's calibrated engine is not used; the model judges as it is", "run edge-agent calibrate --activate"
    ),
    "plc.unsubscribed": Event("warning", "nobody is subscribed to the verdicts", "start or reconnect the gateway"),
    "plc.subscribed": Event("info", "somebody is subscribed to the verdicts"),
    "plc.unacknowledged": Event("warning", "verdicts are not acknowledged in time", "look at the gateway"),
    "plc.acknowledged": Event("info", "verdicts are acknowledged again"),
    "plc.slow_subscriber": Event("warning", "a subscriber does not keep up; messages to it are dropped", "it can ask for a replay"),
    "plc.subscriber_recovered": Event("info", "no message was dropped for a second"),
    "plc.request_refused": Event("warning", "a request on the control socket cannot be served", "see `why`", sums=("count",)),
    "challenge.part_right": Event("info", "a master part came out as declared"),
    "challenge.passed": Event("info", "all master parts came out as declared; a line that was held judges parts again"),
    "challenge.failed": Event("error", "a master part came out wrong; the line is not ready", _CHALLENGE),
    "challenge.unpassable": Event(
        "warning", "a master part has to break what no rule of the line is called now: no challenge can be passed", UNPASSABLE
    ),
    "challenge.unjudged": Event(
        "warning",
        "a master part came while the line was not ready, or stopped, or no thread could be had; it proves nothing",
        "bring it again",
    ),
    "challenge.expired": Event(
        "warning", "an announced master part did not come in time; the next part is the production's", "announce it again"
    ),
    "challenge.cancelled": Event("info", "an announced master part was taken back; the next part is the production's"),
    "challenge.overdue": Event("warning", "no challenge with master parts was passed in time", _CHALLENGE),
    "challenge.unreadable": Event("error", "the picture of a master part cannot be read; it came out as a FAULT", "see `why`"),
    "counters.shift_ended": Event("info", "a shift ended, by its time or by a reset; what it came to"),
    "counters.lot_ended": Event("info", "another lot begins; what the one before came to"),
    "counters.replaced": Event(
        "error",
        "the counters of shift and lot cannot be read, or are another line's, and begin anew; the line goes by the recipe and mode "
        "of the settings, and one with master parts is held until they came out right",
        "look at the disk; ask for the recipe again, where it was another",
    ),
    "counters.unwritten": Event(
        "error", "the disk does not take the counters at the end: what shift and lot came to is in memory alone", "look at the disk"
    ),
    "journal.replaced": Event(
        "error", "the journal was damaged, and put aside; `parts` of the last run could still be read", "keep the file for analysis"
    ),
    "journal.unreadable": Event("error", "parts of the last run in the journal are damaged, and declared lost", "look at the disk"),
    "journal.overwritten": Event("error", "more parts wait for the disk than the journal has slots", "raise journal_parts"),
    "journal.unwritten": Event(
        "error",
        "the disk does not take the journal at the end: parts that the outbox lacks are in memory alone, and lost with it",
        "look at the disk; a start before the machine goes off may still find them",
    ),
    "journal.recovered": Event("warning", "the last run ended without draining; its outcomes are delivered now"),
    "outbox.replaced": Event(
        "error",
        "the outbox was damaged or replaced; a new stream begins",
        "look at the disk; what was damaged is kept as *.damaged-*",
    ),
    "outbox.cut_off": Event(
        "error", "so many `rows` that were durable are in the outbox no more; they are declared lost", "look at the disk"
    ),
    "outbox.salvaged": Event(
        "warning", "what can be read of the damaged outbox, so many `rows`, is shipped; the rest is declared lost"
    ),
    "outbox.copied": Event("warning", "the outbox came from another station, or machine; what waits is shipped as a new stream"),
    "outbox.failed": Event(
        "error",
        "the outbox cannot be written; verdicts go on, losses are declared",
        "look at the disk, or memory; where `why` tells of damage, restart: what can be read is saved",
    ),
    "outbox.recovered": Event("info", "the outbox can be written again"),
    "outbox.unreadable": Event(
        "error",
        "the outbox cannot be read: nothing is shipped, and what comes waits in it; it is tried again",
        "look at the disk, or memory; where `why` tells of damage, restart: what can be read is saved",
    ),
    "outbox.readable": Event("info", "the outbox can be read again"),
    "outbox.shed": Event(
        "warning",
        "something was let go, or lost, and is declared; `why` is cap, refused, damaged or cut off",
        "of cap: a larger cap, or a faster uplink; of refused: a faster disk; else look at the disk",
        sums=("n", "bytes"),
    ),
    "uplink.connected": Event("info", "the collector answers"),
    "uplink.disconnected": Event("warning", "the collector does not answer; the outbox keeps everything", "see the collector"),
    "uplink.collector_behind": Event(
        "error",
        "the collector has lost rows that it had acknowledged, as with an older copy of its store; they are declared lost",
        "keep the newer store, where there is one: no station has these rows any more",
    ),
    "uplink.refused": Event("error", "the collector takes no connection of this station; the outbox keeps everything", "see `why`"),
    "uplink.failed": Event("error", "the link to the collector failed and is opened again", "see `why`"),
    "collector.started": Event("info", "the collector listens"),
    "collector.stopped": Event("info", "the collector has stopped"),
    "collector.refused": Event(
        "warning", "a message cannot be used; rows of one are kept in the table `refused`", "see `why`", sums=("count",)
    ),
    "collector.contradicted": Event(
        "error",
        "a part arrived a second time as another, or with another outcome; both are kept",
        "see the table; a name for each station",
    ),
    "collector.failed": Event(
        "error", "the store cannot be written; nothing is acknowledged meanwhile", "see `why`: disk, database"
    ),
    "collector.recovered": Event("info", "the store can be written again"),
    "metrics.failed": Event(
        "warning", "the metrics cannot be served; parts are judged all the same", "free the port, or set metrics.port"
    ),
    "network.address_awaited": Event(
        "warning",
        "no interface of this machine has the address to listen on; it is listened on as soon as one has",
        "bring that network up, or mend the address",
    ),
    "peer.refused": Event(
        "warning",
        "somebody whose key is not among the clients wanted to connect",
        "if it is one of yours: put its .key file into the folder `clients`; it counts at once",
        sums=("count",),
    ),
    "peer.keys_unreadable": Event(
        "error", "a client's key, or the folder of them, cannot be read; the others count", "see `why`", sums=("count",)
    ),
    "modbus.started": Event("info", "the Modbus server takes connections"),
    "modbus.connected": Event("info", "a Modbus client is connected; `clients` are now", sums=("count",)),
    "modbus.disconnected": Event("warning", "a Modbus client is gone; `clients` are left", "see the PLC", sums=("count",)),
    "modbus.refused": Event("warning", "what the PLC asked for was refused, by the station or here", "see `why`", sums=("count",)),
    "network.address_here": Event("info", "an interface has the address that was awaited; it is listened on"),
    "log.dropped": Event("warning", "lines of this log came faster than they were taken, and were dropped", "see what reads it"),
    "evidence.refused": Event(
        "warning",
        "the evidence pool is full, or memory has no room; pictures are declared lost",
        "fewer or smaller pictures, a faster disk, or more memory",
        sums=("count",),
    ),
    "evidence.recovered": Event("info", "pictures are taken again", sums=("count",)),
}


def alarm_event(alarm: str) -> tuple[str, Event]:
    """The event with which an alarm of the heartbeat, such as `unsubscribed` or `ng_in_a_row/line1`, turns on; and its name."""
    kind, _, _ = alarm.partition("/")
    unknown = Event("warning", "this version of the program does not know it", "ask the station's own: edge-agent events")
    return next(((name, event) for name, event in EVENTS.items() if name.partition(".")[2] == kind), (kind, unknown))


_writer: Writer | None = None
_threshold = logging.INFO  # below this nothing is said: what comes once per part must cost nothing where nobody listens


def as_markdown() -> str:
    """The table of docs/events.md."""
    rows = [
        f"| `{name}` | {event.level}{', 1/s' if event.sums else ''} | {event.meaning} | {event.remedy} |"
        for name, event in EVENTS.items()
    ]
    return "\n".join(["| event | level | meaning | remedy |", "|---|---|---|---|", *rows])


def say(name: str, **values: Any) -> None:
    """Log one event of the table at its level, with its remedy where it has one. Never blocks, once the log is configured."""
    event = EVENTS[name]
    if not is_said(name):
        return
    if event.remedy and event.level in ("warning", "error"):
        values.setdefault("remedy", event.remedy)
    values["timestamp"] = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    line = (event.level, name, values)
    if _writer is None:
        write(*line)
    elif event.sums:
        _writer.gather(line, event.sums)
    else:
        _writer.offer(line)


def is_said(name: str) -> bool:
    """True for an event whose level is not below what was asked for."""
    return LEVELS[EVENTS[name].level] >= _threshold


def dropped_lines() -> int:
    """Lines of the log that came faster than they were taken."""
    return 0 if _writer is None else _writer.dropped


def configure_logging(level: str = "info") -> None:
    """Log from here on by a thread of its own: into the journal, onto a terminal in colours, or as JSON lines."""
    global _threshold, _writer
    _threshold = LEVELS[level]
    _writer = _writer or Writer(lambda lines: say("log.dropped", lines=lines))
    configure(_threshold)
