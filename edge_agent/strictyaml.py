"""YAML read strictly: every problem at once, each with its line.

PyYAML takes the last of two equal keys, `.nan`, and unknown keys in silence; a station must not. A file is parsed to
plain data with a line for every path, then converted to a msgspec struct; on a problem the offending entry is set aside
and the conversion is tried again, so that one run shows all of them.
"""

from __future__ import annotations

import copy
import difflib
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from edge_agent.errors import ConfigurationError, Problem

T = TypeVar("T")
Keys = tuple[str | int, ...]
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.S)
_MOST_PROBLEMS = 50


@dataclass
class Document:
    """A parsed file: plain data, and the line on which each path stands."""

    file: str
    data: Any
    lines: dict[Keys, int]
    problems: list[Problem] = field(default_factory=list)

    def line_of(self, keys: Keys) -> int:
        """Return the line of the longest known prefix of a path."""
        for end in range(len(keys), -1, -1):
            if keys[:end] in self.lines:
                return self.lines[keys[:end]]
        return 1

    def problem(self, keys: Keys, message: str, remedy: str = "") -> Problem:
        return Problem(self.file, self.line_of(keys), dotted(keys), message, remedy)


def dotted(keys: Keys) -> str:
    """`('cameras', 0, 'kind')` is `cameras.0.kind`, the form `--set` takes."""
    return ".".join(str(key) for key in keys)


def read(file: Path) -> Document:
    """Parse a YAML file. Raises ConfigurationError where it is missing or not YAML; duplicate keys become problems."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError([Problem(str(file), 0, "", "the file does not exist.", "give the path of one.")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([Problem(str(file), 0, "", f"cannot be read: {error}.")]) from None
    return parse(text, str(file))


def parse(text: str, file: str) -> Document:
    """Parse YAML text; `file` only names it in problems."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = str(getattr(error, "problem", None) or error)
        raise ConfigurationError([Problem(file, mark.line + 1 if mark else 0, "", f"is not YAML: {what}.")]) from None
    document = Document(file, None, {})
    if node is None:
        document.data, document.lines[()] = {}, 1
        return document
    document.data = _build(node, (), document)
    return document


def _build(node: yaml.Node, keys: Keys, document: Document) -> Any:
    document.lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(node, keys, document)
    if isinstance(node, yaml.SequenceNode):
        return [_build(child, (*keys, index), document) for index, child in enumerate(node.value)]
    value = yaml.SafeLoader("").construct_object(node)
    if isinstance(value, float) and not math.isfinite(value):
        document.problems.append(document.problem(keys, f"is {value}, which is not a number.", "give a finite number."))
    return value


def _build_mapping(node: yaml.MappingNode, keys: Keys, document: Document) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        path = (*keys, key)
        line = key_node.start_mark.line + 1
        if key in result:
            first = document.lines[path]
            document.problems.append(
                Problem(document.file, line, dotted(path), f"stands twice, first on line {first}.", "keep one of them.")
            )
            continue
        document.lines[path] = line
        result[key] = _build(value_node, path, document)
    return result


def convert(document: Document, kind: type[T]) -> T:
    """Make the struct, or raise ConfigurationError with every problem of the file."""
    problems = list(document.problems)
    data = copy.deepcopy(document.data)
    seen: set[tuple[Keys, str]] = set()
    while len(problems) < _MOST_PROBLEMS:
        try:
            result = msgspec.convert(data, kind, strict=True)
        except msgspec.ValidationError as error:
            what, keys = _explain(str(error), data)
            if (keys, what) in seen:
                break
            seen.add((keys, what))
            problems.append(_problem_of(document, what, keys, kind, data))
            if not _set_aside(data, keys, what):
                break
            continue
        if problems:
            break
        return result
    raise ConfigurationError(problems)


def _explain(text: str, data: Any) -> tuple[str, Keys]:
    """Split a msgspec message into what is wrong and the path: `$.cameras[0].kind` -> ('cameras', 0, 'kind')."""
    match = _AT.match(text)
    assert match is not None
    keys: list[str | int] = []
    here = data
    for name, index in re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", match["path"] or ""):
        key: str | int = name or (int(index) if index != "..." else _first_bad(here))
        keys.append(key)
        here = _step(here, key)
    unknown = re.search(r"unknown field `([^`]+)`", match["what"])
    if unknown:
        keys.append(unknown[1])
    return match["what"], tuple(keys)


def _first_bad(here: Any) -> str:
    return next(iter(here)) if isinstance(here, dict) and here else ""


def _step(here: Any, key: str | int) -> Any:
    try:
        return here[key]
    except (KeyError, IndexError, TypeError):
        return None


def _problem_of(document: Document, what: str, keys: Keys, kind: Any, data: Any) -> Problem:
    if "unknown field" in what:
        near = difflib.get_close_matches(str(keys[-1]), sorted(_every_field(kind, set())), n=1)
        remedy = f"did you mean `{near[0]}`?" if near else "remove it, or see docs/settings.md and docs/recipe.md."
        return document.problem(keys, "is not a known key.", remedy)
    value = document.data
    for key in keys:
        value = _step(value, key)
    if "missing required field" in what:
        missing = re.findall(r"`([^`]+)`", what)[0]
        return document.problem(keys, f"the required key `{missing}` is missing.", f"add `{missing}:` here.")
    shown = "" if isinstance(value, (dict, list)) else f"is {value!r}: "
    return document.problem(keys, f"{shown}{what[0].lower()}{what[1:]}.", "give a value of that type and range.")


def _every_field(kind: Any, seen: set[Any]) -> set[str]:
    """Collect the names of all fields of a struct and of the structs inside it, for the spelling hint."""
    if kind in seen:
        return set()
    seen.add(kind)
    names: set[str] = set()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for item in msgspec.structs.fields(kind):
            names |= {item.encode_name} | _every_field(item.type, seen)
    for inner in getattr(kind, "__args__", ()):
        try:
            names |= _every_field(inner, seen)
        except TypeError:
            continue
    return names


def _set_aside(data: Any, keys: Keys, what: str) -> bool:
    """Remove the offending entry so that the rest can be checked; False where nothing can be removed."""
    if not keys or "missing required field" in what:
        return False
    parent = data
    for key in keys[:-1]:
        parent = _step(parent, key)
    try:
        del parent[keys[-1]]
    except (KeyError, IndexError, TypeError):
        return False
    return True
