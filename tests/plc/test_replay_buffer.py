"""The verdicts of late: the last ones, who waits for a word, and nothing that grows dear with how many are kept."""

from __future__ import annotations

import gc
from collections.abc import Iterator

from edge_agent.plc.replay import ReplayBuffer


def tables_of(held: object) -> Iterator[dict[object, object]]:
    for each in gc.get_referents(held):
        if isinstance(each, dict):
            yield each
        if isinstance(each, (dict, list)):
            yield from tables_of(each)


def test_many_verdicts_lie_in_no_one_table() -> None:
    """Laid out anew in one go, one of a million holds up the publisher; and its first key is far behind those taken out."""
    replay = ReplayBuffer(20_000)
    for seq in range(1, 50_001):
        replay.add(("one", 7, seq), b"verdict", seq)
    assert replay.find("one", 7, (30_000, 30_001, 50_000), 1000) == ([b"verdict"] * 2, [30_000])
    assert max(len(table) for table in tables_of(replay)) < 1000


def test_the_oldest_that_waits_is_known_whatever_was_acknowledged() -> None:
    replay = ReplayBuffer(4)
    for seq in range(1, 5):
        replay.add(("one", 7, seq), b"", 100 + seq)
    assert (replay.acknowledge("one", 7, (1, 3, 3)), replay.waiting, replay.look_for_oldest()) == (2, 2, 102)
    replay.add(("one", 7, 5), b"", 105, is_live=False)
    replay.add(("one", 7, 6), b"", 106)
    assert (replay.waiting, replay.look_for_oldest()) == (2, 102), "kept no more, and never acknowledged"
    assert (replay.acknowledge("one", 7, (4, 5, 6)), replay.waiting, replay.look_for_oldest()) == (2, 0, None)
