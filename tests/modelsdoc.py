"""What docs/models.md says of refusals: the words that each row of its tables goes by."""

from __future__ import annotations

import re


def phrases(text: str) -> list[list[str]]:
    """The words in backticks in the first cell of every row below `## Refusals`."""
    rows = re.findall(r"^\| (`.*?) \|", text.split("## Refusals")[1], re.M)
    return [re.findall(r"`([^`]+)`", row) for row in rows]
