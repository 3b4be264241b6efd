"""Room for a report: what an earlier evaluation left there goes, and nothing else does.

evaluation.json lists the files written beside it with their SHA-256, so that a file that somebody put there or changed is known.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from edge_agent.commands import output
from edge_agent.commands.evaluation.report import PICTURES
from edge_agent.errors import UsageError

RESULT = "evaluation.json"
_ALWAYS = ("report.md", "results.jsonl", *PICTURES)


def make_room(out: Path, data: Path, recipe: Path, picks: bool) -> None:
    """Make the folder and remove what an earlier evaluation left there, lest it be taken for this one's.

    Raises UsageError, with nothing removed, where the report would lie in the data, over the recipe, or over a file that no
    evaluation wrote.
    """
    where = out.resolve()
    if where == data.resolve() or data.resolve() in where.parents:
        raise UsageError(f"--out {out} lies in the dataset. Name another folder, or the report would become part of it.")
    if picks and where == recipe.resolve().parent:
        raise UsageError(f"--out {out} holds the recipe itself, which --pick would overwrite. Name another folder.")
    output.make_folder(out)
    own = [out / name for name in _own(out)]
    needed = [out / name for name in (RESULT, *_ALWAYS, *((recipe.name,) if picks else ()))]
    if strange := [file for file in needed if file not in own and (file.exists() or file.is_symlink())]:
        raise UsageError(
            f"--out {out} holds {', '.join(file.name for file in strange)}, which evaluate would write but did not write there, or "
            "which was changed since. Nothing was removed. Move that away, or name another folder."
        )
    for file in own:
        file.unlink()


def written_files(out: Path, picked: dict[str, Any] | None) -> dict[str, str]:
    """The files of this evaluation but evaluation.json itself, each with its SHA-256."""
    names = [*_ALWAYS, *([picked["file"]] if picked is not None and "file" in picked else [])]
    return {name: _hash(out / name) for name in names if (out / name).is_file()}


def _own(out: Path) -> list[str]:
    """The files in this folder that an evaluation wrote and nobody changed."""
    try:
        result = json.loads((out / RESULT).read_bytes())
        listed = dict(result["files"]) if "as_it_stands" in result else {}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    names = [name for name in listed if Path(name).name == name and (out / name).is_file() and not (out / name).is_symlink()]
    return [*(name for name in names if _hash(out / name) == listed[name]), *((RESULT,) if listed else ())]


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
