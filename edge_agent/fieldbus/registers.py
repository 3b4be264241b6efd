"""The map of registers: what stands where, in words of 16 bits, for the server and docs/modbus.md alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag

PART_ID_WORDS = 32  # 64 bytes, the longest part id
COMMANDS_AT = 100
_WORD, _WORDS = 0xFFFF, 0xFFFF_FFFF


class Status(IntFlag):
    """Bits of the first register."""

    HEARD = 1 << 0
    ONLINE = 1 << 1
    READY = 1 << 2
    BUSY = 1 << 3
    TRIGGER_ACK = 1 << 4
    RESULT_VALID = 1 << 5
    RECIPE_ACK = 1 << 6
    COMMAND_FAILED = 1 << 7
    RESULTS_LOST = 1 << 8


class Command(IntFlag):
    """Bits of the register that the PLC commands by; each counts as it rises."""

    TRIGGER = 1 << 0
    RESULT_ACK = 1 << 1
    CLEAR = 1 << 2
    RECIPE = 1 << 3


STATUS_MEANINGS = {
    Status.HEARD: "the station's heartbeat came within 250 ms; while it is 0, nothing else in this register is 1",
    Status.ONLINE: "the line is online: its results count",
    Status.READY: "the line judges parts, and takes triggers",
    Status.BUSY: "a part that this PLC triggered has no result yet",
    Status.TRIGGER_ACK: "the trigger was taken; until its bit falls",
    Status.RESULT_VALID: "the result's registers hold one; until it is acknowledged",
    Status.RECIPE_ACK: "the recipe asked for is in place; until its bit falls",
    Status.COMMAND_FAILED: "a command was refused, and the log says why; until `CLEAR`",
    Status.RESULTS_LOST: "results came faster than they were acknowledged, or the station fell silent; until `CLEAR`",
}
COMMAND_MEANINGS = {
    Command.TRIGGER: "take a part, with the number in `trigger_number`",
    Command.RESULT_ACK: "the result was read; the next one comes when the bit has fallen",
    Command.CLEAR: "`COMMAND_FAILED` and `RESULTS_LOST` are known",
    Command.RECIPE: "judge by the recipe of the number in `recipe_number`",
}


@dataclass(frozen=True, slots=True)
class Register:
    """`words` registers from `address` on, the same as input and as holding registers."""

    name: str
    address: int
    words: int
    meaning: str


RESULT = (
    Register("status", 0, 1, "bits, below"),
    Register("heartbeat", 1, 1, "counts the station's heartbeats, 20 in a second; one that stands still for 250 ms: reject"),
    Register("outcome", 2, 1, "1 PASS, 2 NG, 4 FAULT; 0 without a result: never read one bit alone"),
    Register("reason", 3, 1, "code of a FAULT's reason, as in [wire.md](wire.md#reasons-of-a-fault); else 0"),
    Register("trigger_number", 4, 2, "the part's number, where this PLC triggered it; else 0"),
    Register("sequence", 6, 2, "the part's `seq`"),
    Register("blobs", 8, 1, "how many blobs were found"),
    Register("rules_broken", 9, 1, "how many rules were broken"),
    Register("latency_ms", 10, 1, "trigger to verdict"),
    Register("recipe_number", 11, 1, "of the recipe that judged; 0 where it has none"),
    Register("missed_triggers", 12, 1, "triggers that were refused, counted"),
    Register("lost_results", 13, 1, "results that were never shown, counted"),
    Register("part_id", 16, PART_ID_WORDS, "text, two bytes in a register, the first one high; filled up with 0"),
    Register("results", 48, 1, "counts the results shown: the last register, so that it changes with a whole result"),
)
COMMANDS = (
    Register("commands", COMMANDS_AT, 1, "bits, below"),
    Register("trigger_number", COMMANDS_AT + 1, 2, "1 to 4294967295, another one for each part under way"),
    Register("recipe_number", COMMANDS_AT + 3, 1, "as given with `--recipes`"),
)
SIZE = RESULT[-1].address + RESULT[-1].words
COMMANDS_SIZE = sum(register.words for register in COMMANDS)


def encode(values: Mapping[str, int], part_id: str = "", *, low_word_first: bool = False) -> list[int]:
    """The registers of these values, each by its name; 0 where nothing is said. Counters go on from 0 after their largest."""
    image = [0] * SIZE
    for register in RESULT:
        if register.name == "part_id":
            image[register.address : register.address + PART_ID_WORDS] = _text(part_id)
            continue
        value = values.get(register.name, 0)
        words = [value & _WORD] if register.words == 1 else [(value & _WORDS) >> 16, value & _WORD]
        image[register.address : register.address + register.words] = words[::-1] if low_word_first else words
    return image


def decode(words: list[int], *, low_word_first: bool = False) -> dict[str, int]:
    """What the PLC wrote, by name."""
    found = {}
    for register in COMMANDS:
        at = register.address - COMMANDS_AT
        mine = words[at : at + register.words]
        found[register.name] = sum(word << 16 * i for i, word in enumerate(mine if low_word_first else mine[::-1]))
    return found


def _text(text: str) -> list[int]:
    data = text.encode()[: 2 * PART_ID_WORDS].ljust(2 * PART_ID_WORDS, b"\0")
    return [high << 8 | low for high, low in zip(data[::2], data[1::2], strict=True)]
