"""Words for a person: what may stand at a place of a settings file, by a struct's types; and a number of things."""

from __future__ import annotations

from typing import Any

from msgspec import inspect

Keys = tuple[str | int, ...]


def counted(number: int, noun: str) -> str:
    """The number and its noun, whose plural ends in s: 1 image, 2 images."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def expected(kind: Any, keys: Keys, data: Any) -> str:
    """Say what a struct of `kind` takes at a path; `data` is the file's, which tells the tagged kinds apart. '' if unknown."""
    types, _ = _types_at(kind, keys, data)
    choices = [str(value) for each in types for value in _choices(each)]
    words = [word for each in types for word in _words(each)]
    if choices:
        words.append(("one of " if len(choices) > 1 else "") + ", ".join(dict.fromkeys(choices)))
    return ", or ".join(dict.fromkeys(words))


def fields(kind: Any, keys: Keys, data: Any) -> list[str]:
    """The keys that a struct of `kind` takes in the mapping at a path."""
    types, here = _types_at(kind, keys, data)
    return [field.encode_name for each in types for struct in _structs(each, here) for field in struct.fields]


def _types_at(kind: Any, keys: Keys, data: Any) -> tuple[list[Any], Any]:
    """The types that may stand at a path, and the data that does."""
    types = [inspect.type_info(kind)]
    for key in keys:
        types = [inner for each in types for inner in _inside(each, key, data)]
        data = _step(data, key)
    return types, data


def _step(data: Any, key: str | int) -> Any:
    try:
        return data[key]
    except (KeyError, IndexError, TypeError):
        return None


def _structs(kind: Any, data: Any) -> list[Any]:
    """The structs that a type may be, those only whose tag the data bears, where it bears one of them."""
    if isinstance(kind, inspect.Metadata):
        return _structs(kind.type, data)
    if isinstance(kind, inspect.StructType):
        return [kind]
    if not isinstance(kind, inspect.UnionType):
        return []
    structs = [each for each in kind.types if isinstance(each, inspect.StructType)]
    tagged = [each for each in structs if isinstance(data, dict) and data.get(each.tag_field) == each.tag]
    return tagged or structs


def _inside(kind: Any, key: str | int, data: Any) -> list[Any]:
    if isinstance(kind, inspect.Metadata):
        return _inside(kind.type, key, data)
    structs = _structs(kind, data)
    if structs:
        found = [field.type for each in structs for field in each.fields if field.encode_name == key]
        tags = [inspect.LiteralType((each.tag,)) for each in _all_structs(kind) if each.tag_field == key]
        return found + tags
    if isinstance(kind, inspect.UnionType):
        return [inner for each in kind.types for inner in _inside(each, key, data)]
    if isinstance(kind, inspect.DictType):
        return [kind.value_type]
    if isinstance(kind, (inspect.VarTupleType, inspect.ListType)):
        return [kind.item_type]
    if isinstance(kind, inspect.TupleType) and isinstance(key, int) and key < len(kind.item_types):
        return [kind.item_types[key]]
    return []


def _all_structs(kind: Any) -> list[Any]:
    return [each for each in getattr(kind, "types", (kind,)) if isinstance(each, inspect.StructType)]


def _choices(kind: Any) -> list[Any]:
    if isinstance(kind, inspect.UnionType):
        return [choice for each in kind.types for choice in _choices(each)]
    return list(kind.values) if isinstance(kind, inspect.LiteralType) else []


def _words(kind: Any) -> list[str]:
    if isinstance(kind, inspect.Metadata):
        described = (kind.extra_json_schema or {}).get("description")
        return [described] if described else _words(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [word for each in kind.types for word in _words(each)]
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        return [("a whole number" if isinstance(kind, inspect.IntType) else "a number") + _range(kind)]
    if isinstance(kind, inspect.StrType):
        return ["text" + " that is not empty" * bool(kind.min_length)]
    if isinstance(kind, inspect.BoolType):
        return ["true or false"]
    if isinstance(kind, (inspect.StructType, inspect.DictType)):
        needed = [f"`{name}:`" for name in _needed(kind)]
        return ["keys with values" + f", at least {' and '.join(needed)}" * bool(needed)]
    if isinstance(kind, inspect.TupleType):
        return [f"a list of {len(kind.item_types)}"]
    if isinstance(kind, (inspect.VarTupleType, inspect.ListType)):
        return ["a list" + _length(kind)]
    return []


def _length(kind: Any) -> str:
    """How many entries a list takes."""
    if kind.max_length is None:
        return f" of at least {kind.min_length}" if kind.min_length else ""
    return f" of {kind.min_length} to {kind.max_length}" if kind.min_length else f" of at most {kind.max_length}"


def _needed(kind: Any) -> list[str]:
    """The keys that a struct needs; those of tagged kinds differ, and are told once the tag is there."""
    fields = kind.fields if isinstance(kind, inspect.StructType) and kind.tag is None else ()
    return [field.encode_name for field in fields if field.required]


def _range(kind: Any) -> str:
    lower = f" from {kind.ge:g}" if kind.ge is not None else f" above {kind.gt:g}" if kind.gt is not None else ""
    upper = f" up to {kind.le:g}" if kind.le is not None else f" below {kind.lt:g}" if kind.lt is not None else ""
    return lower + (" and" if " above" in lower and upper else "") + upper
