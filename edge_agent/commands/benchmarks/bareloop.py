"""The yardstick of `benchmark plumbing`: the same steps as the daemon's, without the daemon.

Four threads joined by SimpleQueue: take a recorded map and look at it; encode and publish; store durably. No deadlines,
no rules, no replay, no evidence plan: what the machine gives when nobody has to be right.
"""

from __future__ import annotations

import mmap
import queue
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import apsw
import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import zmq

_BATCH = 64
_SLOT_BYTES = 1024


def parts_per_s(maps: npt.NDArray[np.uint8], order: list[int], parts: int, folder: str) -> float:
    """Run `parts`, part n on map order[n], through the bare loop, publishing on bare in `folder`, whose owner removes what is
    left there; return the rate of the slowest step."""
    with tempfile.TemporaryDirectory(dir=folder) as store:
        return _Loop(maps, order, parts, f"ipc://{folder}/bare", Path(store)).run()


class _Loop:
    def __init__(self, maps: npt.NDArray[np.uint8], order: list[int], parts: int, endpoint: str, folder: Path) -> None:
        self._maps = maps[:, 0]
        self._order = order
        self._parts = parts
        self._endpoint = endpoint
        self._folder = folder
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._filled: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._judged: queue.SimpleQueue[tuple[int, int, list[Any], bytes] | None] = queue.SimpleQueue()
        self._records: queue.SimpleQueue[tuple[bytes, bytes] | None] = queue.SimpleQueue()
        self._slots = np.zeros((8, *self._maps.shape[1:]), np.uint8)

    def run(self) -> float:
        for slot in range(len(self._slots)):
            self._free.put(slot)
        steps = (self._fill, self._look, self._publish, self._store)
        threads = [threading.Thread(target=step, daemon=True) for step in steps]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self._parts / (time.perf_counter() - began)

    def _fill(self) -> None:
        for n in range(self._parts):
            slot = self._free.get()
            np.copyto(self._slots[slot], self._maps[self._order[n % len(self._order)]])
            self._filled.put((n, slot))
        self._filled.put(None)

    def _look(self) -> None:
        mask = np.zeros_like(self._slots[0])
        while (item := self._filled.get()) is not None:
            n, slot = item
            probability = self._slots[slot]
            blobs: list[Any] = []
            crop = b""
            if int(probability.max()) >= 128:
                cv2.threshold(probability, 127, 255, cv2.THRESH_BINARY, dst=mask)
                _, _, stats, centres = cv2.connectedComponentsWithStats(mask, None, None, None, 8, cv2.CV_16U)
                blobs = [[*map(int, s), *map(float, c)] for s, c in zip(stats[1:], centres[1:], strict=True)]
                x, y = max(0, blobs[0][0] - 16), max(0, blobs[0][1] - 16)
                crop = cv2.imencode(".png", probability[y : y + 96, x : x + 96], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
            self._free.put(slot)
            self._judged.put((n, time.time_ns() // 1000, blobs, crop))
        self._judged.put(None)

    def _publish(self) -> None:
        encoder = msgspec.json.Encoder()
        journal = mmap.mmap(-1, 1024 * _SLOT_BYTES)
        with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
            socket.linger = 1000
            socket.bind(self._endpoint)
            while (item := self._judged.get()) is not None:
                n, time_us, blobs, crop = item
                outcome = "NG" if blobs else "PASS"
                body = encoder.encode({"seq": n, "part_id": str(n), "time_us": time_us, "outcome": outcome, "blobs": blobs})
                at = n % 1024 * _SLOT_BYTES
                journal[at : at + len(body[:_SLOT_BYTES])] = body[:_SLOT_BYTES]
                socket.send_multipart((b"verdict.json/bare/line", body), zmq.DONTWAIT)
                self._records.put((body, crop))
        self._records.put(None)

    def _store(self) -> None:
        base = apsw.Connection(str(self._folder / "bare.db"))
        base.execute("pragma journal_mode=wal; pragma synchronous=full")
        base.execute("create table row(seq integer primary key, body blob); create table crop(seq integer, data blob)")
        is_open = True
        while is_open:
            batch = [self._records.get()]
            while len(batch) < _BATCH and not self._records.empty():
                batch.append(self._records.get())
            is_open = batch[-1] is not None
            rows = [item for item in batch if item is not None]
            with base:
                base.executemany("insert into row(body) values(?)", [(body,) for body, _ in rows])
                base.executemany("insert into crop(data) values(?)", [(crop,) for _, crop in rows if crop])
        base.close()
