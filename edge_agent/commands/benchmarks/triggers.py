"""Software triggers one after the other, each followed to its picture, on a camera that may lose packets on the way."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import Counter
from typing import Any

from edge_agent.camera.aravis import AravisCamera
from edge_agent.camera.base import Due, Lost
from edge_agent.camera_settings import AravisCamera as Settings
from edge_agent.commands.benchmarks.camera import parse_size, simulated
from edge_agent.errors import CameraError, UsageError
from edge_agent.ring import Ring

_SLOTS = 16
_ANSWER_S = 10.0
_PACKET = 1500  # as on a wire without jumbo frames


def measure_triggers(size: str, parts: int, address: str, faults: str) -> dict[str, Any]:
    """Trigger so many parts; return how many got their picture, and from trigger to picture in its slot (ms)."""
    cols, rows = parse_size(size)
    if address and faults:
        raise UsageError("--faults are the simulated camera's; take --address out")
    with contextlib.nullcontext(address) if address else simulated(size, 1, faults) as at:
        camera = AravisCamera(
            Settings(name="benchmark", address=at, width=cols, height=rows, trigger="software", packet_size=_PACKET)
        )
        camera.open()
        try:
            reasons, delays_ms = _follow(camera, parts)
            counters = camera.counters()
        finally:
            camera.close()
    return {
        "triggers": parts,
        "pictures": len(delays_ms),
        "lost_parts": sum(reasons.values()),
        "reasons": dict(reasons),
        "missing_packets": counters.get("missing_packets", 0),
        "resent_packets": counters.get("resent_packets", 0),
        "resend_requests": counters.get("resend_requests", 0),
        "trigger_to_slot_ms": round(statistics.median(delays_ms), 3) if delays_ms else None,
        "slowest_ms": round(max(delays_ms), 3) if delays_ms else None,
        "size": size,
        "faults": faults,
        "packet_size": _PACKET,
        "camera": address or "simulated",
        "unaccounted": parts - len(delays_ms) - sum(reasons.values()),
    }


def _follow(camera: AravisCamera, parts: int) -> tuple[Counter[str], list[float]]:
    ring = Ring(_SLOTS, camera.max_pixels)
    for _ in range(_SLOTS):
        slot = ring.lease()
        assert slot is not None
        camera.lend(slot, ring.view(slot))
    reasons: Counter[str] = Counter()
    delays_ms: list[float] = []
    for number in range(parts):
        begun_s = time.monotonic()
        camera.trigger(str(number))
        while (arrival := camera.wait(0.1)) is None or isinstance(arrival, Due):
            if time.monotonic() > begun_s + _ANSWER_S:
                raise CameraError(f"trigger {number} got no answer within {_ANSWER_S:g} s")
        if isinstance(arrival, Lost):
            reasons[arrival.reason.value] += arrival.count
        else:
            delays_ms.append((time.monotonic() - begun_s) * 1000)
            camera.lend(arrival.slot, ring.view(arrival.slot))
    return reasons, delays_ms
