"""YAML read strictly: every problem at once, each with its line.

PyYAML takes the last of two equal keys, `.nan`, and unknown keys in silence; a station must not. A file is parsed to
plain data with a line for every path, then converted to a msgspec struct; on a problem the offending entry is set aside
and the conversion is tried again, so that one run shows all of them.
"""

from __future__ import annotations

import copy
import difflib
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from edge_agent import typewords
from edge_agent.errors import ConfigurationError, Problem, remedy_of

T = TypeVar("T")
Keys = tuple[str | int, ...]
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.S)
_MOST_PROBLEMS = 50
_MOST_DEEP = 20
_SHOWN = 6
_MEND = "mend this line or what comes before it: each bracket and quote closed, `: ` behind each key, spaces and no tabs before it."


@dataclass
class Document:
    """A parsed file: plain data, and the line on which each path stands."""

    file: str
    data: Any
    lines: dict[Keys, int]
    problems: list[Problem] = field(default_factory=list)
    unusable: list[Keys] = field(default_factory=list)  # what has its problem already and must not get another
    trial: _Trial | None = None  # while contradictions are looked for in what is left of a file with problems

    def line_of(self, keys: Keys) -> int:
        """Return the line of the longest known prefix of a path."""
        for end in range(len(keys), -1, -1):
            if keys[:end] in self.lines:
                return self.lines[keys[:end]]
        return 1

    def problem(self, keys: Keys, message: str, remedy: str = "") -> Problem:
        if self.trial is not None:
            keys = self.trial.in_file(keys)
        return Problem(self.file, self.line_of(keys), dotted(keys), message, remedy)

    def is_whole(self, key: str) -> bool:
        """False where an entry of this list or mapping has a problem of its own, so that nobody misses it there."""
        return self.trial is None or not self.trial.lacks(key)


def dotted(keys: Keys) -> str:
    """`('cameras', 0, 'kind')` is `cameras.0.kind`, the form `--set` takes."""
    return ".".join(str(key) for key in keys)


def read(file: Path) -> Document:
    """Parse a YAML file. Raises ConfigurationError where it is missing or not YAML; duplicate keys become problems."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError.of("the file does not exist.", _instead_of(file), file) from None
    except OSError as error:
        raise ConfigurationError.of(f"cannot be read: {error.strerror}.", remedy_of(error), file) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError.of(f"cannot be read: {error}.", "save it as UTF-8.", file) from None
    return parse(text, str(file))


def _instead_of(file: Path) -> str:
    """What to do about a file that is not there: what its folder has instead, the nearest name first."""
    missing = next((each for each in (file, *file.parents) if os.path.isdir(each.parent)), file)  # noqa: PTH112  # Path's fails in what is closed
    try:
        names = [each.name for each in missing.parent.iterdir() if each.suffix == missing.suffix and each.name[0] != "."]
    except OSError:
        names = []
    if missing not in (file, file.parent):  # what lies beside a folder far above says little
        names = difflib.get_close_matches(missing.name, names)
    if not names or missing.name in names:
        return "put it there, or mend the path."
    names.sort(key=lambda name: (-difflib.SequenceMatcher(None, name, missing.name).ratio(), name))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"{missing.parent} has no {missing.name}, but {', '.join(names[:_SHOWN])}{more}: name one that is there, or put it there."
    )


def parse(text: str, file: str) -> Document:
    """Parse YAML text; `file` only names it in problems."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = str(getattr(error, "problem", None) or error)
        raise ConfigurationError([Problem(file, mark.line + 1 if mark else 0, "", f"is not YAML: {what}.", _MEND)]) from None
    document = Document(file, None, {})
    if node is None:
        document.data, document.lines[()] = {}, 1
        return document
    document.data = _build(node, (), document)
    return document


def _build(node: yaml.Node, keys: Keys, document: Document) -> Any:
    document.lines.setdefault(keys, node.start_mark.line + 1)
    if len(keys) > _MOST_DEEP:
        raise ConfigurationError(
            [document.problem(keys[:3], f"is nested more than {_MOST_DEEP} deep.", "does an alias hold itself?")]
        )
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(node, keys, document)
    if isinstance(node, yaml.SequenceNode):
        return [_build(child, (*keys, index), document) for index, child in enumerate(node.value)]
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError):
        message = f"is {node.value!r}, which YAML takes for something that it is not."
        document.problems.append(document.problem(keys, message, "put it in quotes."))
        document.unusable.append(keys)
        return None


def _build_mapping(node: yaml.MappingNode, keys: Keys, document: Document) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            document.problems.append(
                Problem(document.file, line, dotted(keys), "has a key that is no plain text.", "name the key.")
            )
            continue
        key = str(key_node.value)
        path = (*keys, key)
        if key in result:
            first = document.lines[path]
            document.problems.append(
                Problem(document.file, line, dotted(path), f"stands twice, first on line {first}.", "keep one of them.")
            )
            continue
        document.lines[path] = line
        result[key] = _build(value_node, path, document)
    return result


def convert(document: Document, kind: type[T], contradictions: Callable[[T, Document], list[Problem]] | None = None) -> T:
    """Make the struct, or raise ConfigurationError with every problem of the file; `contradictions` are those between values
    that are well each by itself."""
    problems = list(document.problems)
    trial = _Trial(document.data)
    for keys in document.unusable:
        trial.set_aside(keys)
    for keys, value in _not_finite(document.data, ()):
        problems.append(document.problem(keys, f"is {value}, which is not a number.", "give a finite number."))
        trial.set_aside(keys)
    while len(problems) < _MOST_PROBLEMS:
        try:
            result = msgspec.convert(trial.data, kind, strict=True)
        except msgspec.ValidationError as error:
            what, keys = _explain(str(error), trial, kind)
            if not trial.is_consequence(what, keys):
                problems.append(_problem_of(document, what, keys, kind))
            if not trial.set_aside(keys):
                break
            continue
        document.trial = trial
        problems += contradictions(result, document) if contradictions else []
        document.trial = None
        if problems:
            break
        return result
    raise ConfigurationError(problems)


def _not_finite(data: Any, keys: Keys) -> Iterator[tuple[Keys, float]]:
    if isinstance(data, float) and not math.isfinite(data):
        yield keys, data
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from _not_finite(value, (*keys, key))


class _Trial:
    """A copy of the data from which offending entries are set aside. Paths are always those of the file."""

    def __init__(self, data: Any) -> None:
        self.data = copy.deepcopy(data)
        self._gone: set[Keys] = set()

    def place(self, keys: Keys, index: int) -> int:
        """Return where the entry that now is number `index` of a list stands in the file."""
        gone = sorted(path[-1] for path in self._gone if path[:-1] == keys and isinstance(path[-1], int))
        for each in gone:
            index += each <= index
        return index

    def in_file(self, keys: Keys) -> Keys:
        """Return where in the file the path leads, which is one through what is left."""
        found: Keys = ()
        for key in keys:
            found = (*found, self.place(found, key) if isinstance(key, int) else key)
        return found

    def lacks(self, key: str) -> bool:
        """True where an entry under `key`, or its name, was set aside."""
        return any(path[0] == key and (len(path) <= 2 or path[2:] == ("name",)) for path in self._gone)

    def at(self, keys: Keys) -> Any:
        """Return what is left at a path, None where nothing is."""
        here = self.data
        for depth, key in enumerate(keys):
            here = _step(here, self._now(keys[:depth], key))
        return here

    def _now(self, keys: Keys, key: str | int) -> str | int:
        """Return a key as it is after what was set aside before it in its list."""
        return key if isinstance(key, str) else key - sum((*keys, before) in self._gone for before in range(key))

    def set_aside(self, keys: Keys) -> bool:
        """Remove an entry so that the rest can be checked; False where nothing is left to remove."""
        if not keys or keys in self._gone:
            return False
        try:
            del self.at(keys[:-1])[self._now(keys[:-1], keys[-1])]
        except (KeyError, IndexError, TypeError):
            return False
        self._gone.add(keys)
        return True

    def is_consequence(self, what: str, keys: Keys) -> bool:
        """True for a complaint about the absence of something that was set aside here. A struct's own words, too, where they
        name it or what was meant by it: it saw that as not given."""
        missing = re.search(r"missing required field `([^`]+)`", what)
        if missing:
            return (*keys, missing[1]) in self._gone
        gone = [str(path[-1]) for path in self._gone if path[:-1] == keys]
        if _is_own(what):
            return any(difflib.get_close_matches(key, re.findall(r"\w+", what), n=1) for key in gone)
        return "of length" in what and bool(gone)

    def only(self, keys: Keys, key: str) -> Any:
        """Return the data with nothing but `key` in the mapping at a path."""
        alone = _Trial(self.data)
        alone._gone = self._gone
        mapping = alone.at(keys)
        for other in [name for name in mapping if name != key]:
            del mapping[other]
        return alone.data


def _explain(text: str, trial: _Trial, kind: type[Any]) -> tuple[str, Keys]:
    """Split a msgspec message into what is wrong and the path: `$.cameras[0].kind` -> ('cameras', 0, 'kind')."""
    match = _AT.match(text)
    assert match is not None
    keys: Keys = ()
    for name, index in re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", match["path"] or ""):
        key = _bad_key(text, keys, trial, kind) if index == "..." else name or trial.place(keys, int(index))
        keys = (*keys, key)
    unknown = re.search(r"unknown field `([^`]+)`", match["what"])
    return match["what"], (*keys, unknown[1]) if unknown else keys


def _bad_key(text: str, keys: Keys, trial: _Trial, kind: type[Any]) -> str:
    """Find which entry of a mapping is meant, where msgspec says `[...]`: the one that alone gives the same message."""
    here = trial.at(keys)
    for key in here if isinstance(here, dict) else ():
        try:
            msgspec.convert(trial.only(keys, key), kind, strict=True)
        except msgspec.ValidationError as error:
            if str(error) == text:
                return str(key)
    return ""


def _step(here: Any, key: str | int) -> Any:
    try:
        return here[key]
    except (KeyError, IndexError, TypeError):
        return None


def _problem_of(document: Document, what: str, keys: Keys, kind: Any) -> Problem:
    if "unknown field" in what:
        known = typewords.fields(kind, keys[:-1], document.data)
        near = difflib.get_close_matches(str(keys[-1]), known, n=1)
        remedy = (
            f"did you mean `{near[0]}`?"
            if near
            else f"remove it, or give one of {', '.join(known)}."
            if known
            else "remove it: nothing can stand here."
        )
        return document.problem(keys, "is not a key that can stand here.", remedy)
    value = document.data
    for key in keys:
        value = _step(value, key)
    if "missing required field" in what:
        missing = re.findall(r"`([^`]+)`", what)[0]
        return document.problem(keys, f"the required key `{missing}` is missing.", f"add `{missing}:` here.")
    if _is_own(what):
        return document.problem(keys, f"{what}.")
    shown = (
        "keys with values" if isinstance(value, dict) else f"a list of {len(value)}" if isinstance(value, list) else _as_yaml(value)
    )
    wanted = typewords.expected(kind, keys, document.data)
    if wanted.startswith("text") and isinstance(value, (bool, int, float)):
        wanted = "text, in quotes"
    return document.problem(keys, f"is {shown}, which cannot stand here.", f"give {wanted or 'another value'}.")


def _is_own(what: str) -> bool:
    """True for a struct's own words about its values taken together."""
    return not what.startswith(("Expected", "Invalid", "Object")) and "unknown field" not in what


def _as_yaml(value: Any) -> str:
    return (
        {True: "true", False: "false", None: "empty"}.get(value, repr(value))
        if isinstance(value, (bool, type(None)))
        else repr(value)
    )
