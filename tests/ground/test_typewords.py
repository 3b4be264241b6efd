"""Words for a person."""

from __future__ import annotations

from pathlib import Path

from edge_agent.commands.calibrating.images import Golden, Seen, unseen
from edge_agent.typewords import counted


def test_one_thing_has_no_plural() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_one_reason_more_is_told_as_one() -> None:
    seen = [Seen(Golden(Path(f"{number}.png"), f"{number}.png"), [], f"why {number}") for number in range(4)]
    assert unseen(seen).endswith(" And 1 reason more.")
