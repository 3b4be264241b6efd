"""As much of PTX as the kernels of tools/gpu/stand_in use, computed for all threads of a grid at once on this machine's own memory.

Threads that branched apart go on with whichever stands first in the text, as long as any runs.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_TYPES = {"u8": np.uint8, "b8": np.uint8, "u32": np.uint32, "b32": np.uint32, "u64": np.uint64, "b64": np.uint64, "f32": np.float32}
_MOST_STEPS = 1_000_000


class Trap(Exception):
    """A kernel ran into `trap`."""


@dataclass
class Kernel:
    """Parameters with their types, instructions, and where the labels are."""

    parameters: list[tuple[str, str]]
    code: list[tuple[str, str, list[str]]] = field(default_factory=list)  # guard, operation, operands
    labels: dict[str, int] = field(default_factory=dict)


class Module:
    """A PTX text: `tables` are its arrays in memory, `kernels` its entries."""

    def __init__(self, text: str) -> None:
        assert ".version" in text and ".target sm_" in text and ".address_size 64" in text
        self.tables: dict[str, Any] = {}
        self.kernels: dict[str, Kernel] = {}
        for kind, name, size, values in re.findall(r"\.global \.align 4 \.(\w+) (\w+)\[(\d+)\] = \{([^}]*)\};", text):
            words = values.split(", ")
            assert len(words) == int(size)
            bits = [int(word[2:], 16) if word.startswith("0f") else int(word) for word in words]
            held = np.array(bits, np.uint32).view(np.float32) if kind == "f32" else np.array(bits, _TYPES[kind])
            self.tables[name] = held
        for name, parameters, body in re.findall(r"\.visible \.entry (\w+)\(([^)]*)\)\s*\{([^}]*)\}", text):
            told = [(kind, of) for kind, of in re.findall(r"\.param \.(\w+) (\w+)", parameters)]
            self.kernels[name] = _kernel(Kernel(told), body)


def _kernel(kernel: Kernel, body: str) -> Kernel:
    for line in re.split(r";|(?<=:)\s", body):
        words = line.strip()
        if words.endswith(":"):
            kernel.labels[words[:-1]] = len(kernel.code)
        elif words and not words.startswith(".reg"):
            guard, rest = words.split(maxsplit=1) if words.startswith("@") else ("", words)
            operation, _, operands = rest.partition(" ")
            kernel.code.append((guard[1:], operation, [each.strip() for each in operands.split(",") if each.strip()]))
    return kernel


def run(module: Module, name: str, grid: tuple[int, int], block: int, given: list[int]) -> None:
    """Run every thread to its end. Raises Trap, AssertionError for what is not known here."""
    kernel, threads = module.kernels[name], grid[0] * grid[1] * block
    index = np.arange(threads, dtype=np.uint32)
    held: dict[str, Any] = {
        "%tid.x": index % block,
        "%ctaid.x": index // block % grid[0],
        "%ctaid.y": index // (block * grid[0]),
        "%ntid.x": np.full(threads, block, np.uint32),
        "%nctaid.x": np.full(threads, grid[0], np.uint32),
    }
    parameters = {of: (kind, value) for (kind, of), value in zip(kernel.parameters, given, strict=True)}
    at = np.zeros(threads, np.int64)
    for _ in range(_MOST_STEPS):
        place = int(at.min())
        if place >= len(kernel.code):
            return
        here = at == place
        guard, operation, operands = kernel.code[place]
        if guard:
            here &= held[guard]
        at[at == place] += 1
        if operation == "bra":
            at[here] = kernel.labels[operands[0]]
        elif operation == "ret":
            at[here] = len(kernel.code)
        elif operation == "trap":
            raise Trap
        elif here.any():
            _do(module, held, parameters, operation.split("."), operands, here)
    raise AssertionError("a kernel that does not end")


def _do(module: Module, held: dict[str, Any], parameters: Any, words: list[str], operands: list[str], here: Any) -> None:
    kind = _TYPES[words[-1]]

    def value(name: str) -> Any:
        if name in module.tables:
            return np.full(len(here), module.tables[name].ctypes.data, np.uint64)
        return held[name] if name in held else np.full(len(here), int(name), kind)

    if words[:2] == ["ld", "param"]:
        told, given = parameters[operands[1][1:-1]]
        assert told == words[-1]
        made = np.full(len(here), given, kind)
    elif words[0] == "ld":
        made = np.zeros(len(here), kind)
        memory, places = _whole(value(operands[1][1:-1])[here], kind)
        made[here] = memory[places]
        made = made.astype(np.uint32) if kind is np.uint8 else made
    elif words[0] == "st":
        values = value(operands[1])[here]
        memory, places = _whole(value(operands[0][1:-1])[here], kind)
        memory[places] = values.astype(kind) if kind is not np.float32 else values
        return
    elif words[0] == "red":
        assert words[1:3] == ["global", "max"]
        memory, places = _whole(value(operands[0][1:-1])[here], kind)
        np.maximum.at(memory, places, value(operands[1])[here])
        return
    elif words[0] == "setp":
        first, second = (value(each) for each in operands[1:])
        made = {"ge": first >= second, "ne": first != second}[words[1]]
    else:
        made = _computed(words, [value(each) for each in operands[1:]], kind)
    if operands[0] not in held:
        held[operands[0]] = np.zeros(len(here), made.dtype)
    held[operands[0]][here] = made[here]


def _computed(words: list[str], given: list[Any], kind: Any) -> Any:
    if words[:2] == ["mul", "wide"]:
        return given[0].astype(np.uint64) * given[1].astype(np.uint64)
    if words[0] == "cvt":
        return given[0].astype(_TYPES[words[1]])
    if words[:2] == ["mad", "lo"]:
        return (given[0] * given[1] + given[2]).astype(kind)
    return {
        "mov": lambda: given[0].astype(kind),
        "cvta": lambda: given[0],
        "add": lambda: given[0] + given[1],
        "sub": lambda: given[0] - given[1],
        "mul": lambda: given[0] * given[1],
        "max": lambda: np.maximum(given[0], given[1]),
    }[words[0]]()


def _whole(addresses: Any, kind: Any) -> tuple[Any, Any]:
    """The memory that the addresses lie in, and where."""
    size, first = np.dtype(kind).itemsize, int(addresses.min())
    length = int(addresses.max()) - first + size
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * length).from_address(first)).view(kind)
    return memory, ((addresses - np.uint64(first)) // np.uint64(size)).astype(np.int64)
