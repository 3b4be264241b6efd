"""The table of metrics: name, kind, labels, meaning. What is not in the table cannot be exposed; docs/metrics.md lists the same."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "edge_agent_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of samples. `kind` is counter, gauge or histogram; a counter's name ends in `_total`."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def _table(*rows: tuple[str, str, str, str]) -> dict[str, Metric]:
    metrics = [Metric(PREFIX + name, kind, tuple(labels.split()), meaning) for name, kind, labels, meaning in rows]
    return {metric.name.removeprefix(PREFIX): metric for metric in metrics}


METRICS = _table(
    # the parts of a line
    ("triggers_total", "counter", "line", "triggers the station knows of"),
    ("parts_total", "counter", "line outcome", "parts with their outcome: PASS, NG, FAULT"),
    ("reasons_total", "counter", "line outcome reason", "why: the rules that were broken (NG), the reasons of a FAULT"),
    ("open_parts", "gauge", "line", "parts triggered and not yet decided"),
    ("deadline_misses_total", "counter", "line", "parts that were not judged in time: FAULT late"),
    ("discarded_results_total", "counter", "line", "results that came after their part's outcome"),
    (
        "stage_seconds",
        "histogram",
        "line view stage",
        "where the time goes: capture, prepare (checks, queue), infer, judge, publish",
    ),
    ("verdict_seconds", "histogram", "line", "from the trigger to the published verdict"),
    ("deadline_seconds", "gauge", "line", "how long after its trigger a part's time is over, the guard time taken off"),
    ("deadline_margin_seconds", "gauge", "line", "what the 99th percentile of the last 1000 parts leaves of it"),
    ("rule_margin", "gauge", "line rule", "the least distance to the limit of the last 1000 parts, in the rule's unit"),
    ("line_ready", "gauge", "line", "1 where the line judges parts"),
    ("line_held", "gauge", "line", "1 while a challenge with master parts, failed or overdue, holds the line"),
    ("line_verified", "gauge", "line", "1 where a second source counts the line's triggers"),
    ("line_mode", "gauge", "line mode", "1 for the mode the line is in: online, offline, shadow"),
    ("line_info", "gauge", "line view recipe recipe_hash model_hash engine", "1: by what parts are judged now"),
    ("period_parts", "gauge", "line period outcome", "parts of this shift or lot, the production's alone; survive a restart"),
    ("period_yield", "gauge", "line period", "PASS of all parts of this shift or lot, 0 to 1"),
    # pictures
    ("frames_total", "counter", "line view", "pictures that came with their part"),
    ("skipped_frames_total", "counter", "line view", "pictures of parts given up meanwhile, or left out of a preview"),
    ("camera_events_total", "counter", "line view what", "the camera's own counts since it was opened: pictures, packets, resends"),
    ("frame_slots", "gauge", "line view", "frame slots of the view; a driver that hangs takes some away for good"),
    ("frame_slots_free", "gauge", "line view", "frame slots without a picture: the margin to an overrun"),
    ("waiting_frames", "gauge", "line view", "pictures between camera and judgement"),
    # the PLC
    ("published_total", "counter", "", "verdicts published"),
    ("acknowledged_total", "counter", "", "verdicts that the gateway acknowledged"),
    ("unacknowledged", "gauge", "", "verdicts published and not acknowledged, as far as they are kept for a replay"),
    ("unacknowledged_age_seconds", "gauge", "", "how long the oldest waits, kept or not"),
    ("subscribers", "gauge", "", "subscriptions to verdicts"),
    ("dropped_messages_total", "counter", "", "how often a message found somebody's queue full"),
    ("alarm", "gauge", "alarm", "1 for each alarm of the heartbeat that is on"),
    # what waits for the datacenter
    ("journal_overwritten_total", "counter", "", "parts whose place in the journal was taken by later ones"),
    ("records_refused_total", "counter", "", "records that the outbox had no room for, declared lost"),
    ("outbox_rows", "gauge", "", "rows that the collector has not acknowledged"),
    ("outbox_bytes", "gauge", "", "size of the outbox as of its last look"),
    ("outbox_cap_bytes", "gauge", "", "size at which something must go"),
    ("outbox_age_seconds", "gauge", "", "age of the oldest row by the clock, whose steps it follows; 0 where none waits"),
    ("outbox_committed_total", "counter", "", "rows made durable"),
    ("outbox_acknowledged_total", "counter", "", "rows that the collector has"),
    ("outbox_lost_total", "counter", "what", "records and pictures let go, and declared lost"),
    ("outbox_failures_total", "counter", "", "commits that the disk refused"),
    ("pictures_refused_total", "counter", "", "pictures for which the evidence pool, or memory, had no room, declared lost"),
    ("collector_connected", "gauge", "", "1 while the collector answers"),
    ("collector_resent_total", "counter", "", "rows that were sent a second time"),
    # the machine
    ("station_info", "gauge", "station version epoch", "1: which station, program and start"),
    ("reload_refused", "gauge", "", "1 while what the last reload read is refused, and the recipes before judge"),
    ("log_dropped_total", "counter", "", "lines of the log that nobody took in time"),
    ("disk_bytes", "gauge", "", "size of the disk with the state folder"),
    ("disk_free_bytes", "gauge", "", "what is free there for the station"),
    ("memory_bytes", "gauge", "", "memory of the machine"),
    ("memory_available_bytes", "gauge", "", "memory that is available without swapping"),
    ("temperature_celsius", "gauge", "zone", "temperatures that the kernel knows (CPU, board, on a Jetson the GPU)"),
    ("cpu_throttles_total", "counter", "", "how often cores were slowed down for their temperature"),
    ("gpu_temperature_celsius", "gauge", "gpu", "temperature of an NVIDIA GPU"),
    ("gpu_throttled", "gauge", "gpu reason", "1 for each reason for which the GPU runs slower than it could now"),
    ("gpu_memory_bytes", "gauge", "gpu", "memory of the GPU"),
    ("gpu_memory_used_bytes", "gauge", "gpu", "what is used of it, by anybody"),
)
