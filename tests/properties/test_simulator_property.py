"""Whatever comes over the control channel, or stands in a fault specification, is answered or refused; nothing breaks."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import UsageError
from edge_agent.simulator.control import Control
from edge_agent.simulator.faults import FRAME_FAULTS, FaultPlan, parse_faults
from edge_agent.simulator.registers import REGISTERS, RegisterMap

COMMANDS = st.sampled_from([0x02, 0x40, 0x80, 0x82, 0x84, 0x86, 0x88, 0xFFFF])
ADDRESSES = st.one_of(st.sampled_from([register.address for register in REGISTERS]), st.integers(0, 2**32 - 1))
WORDS = st.lists(st.one_of(ADDRESSES, st.integers(0, 2**32 - 1)), max_size=6).map(lambda w: struct.pack(f">{len(w)}I", *w))
CONTENTS = st.one_of(WORDS, st.binary(max_size=40))
REGISTER_MAP = RegisterMap("127.0.0.9", "S-9", 48, 64)


@given(st.lists(st.tuples(COMMANDS, CONTENTS, st.booleans()), max_size=8))
def test_every_command_has_its_answer_and_the_registers_stay_possible(commands: list[tuple[int, bytes, bool]]) -> None:
    REGISTER_MAP.reset()
    control = Control(REGISTER_MAP, lambda names: None, lambda block_id, first, last: None)
    for command, content, is_other in commands:
        datagram = struct.pack(">BBHHH", 0x42, 1, command, len(content), 3) + content
        answer = control.answer(datagram, ("127.0.0.2" if is_other else "127.0.0.1", 5), 0)
        assert (answer is None) == (command == 0x40)
        assert answer is None or struct.unpack_from(">HH", answer, 2) == (command + 1 & 0xFFFF, len(answer) - 8)
    for register in REGISTERS:
        if register.is_writable and register.name != "PixelFormat":
            assert register.least <= REGISTER_MAP.number(register.name) <= register.most
    assert REGISTER_MAP["OffsetX"] + REGISTER_MAP["Width"] <= REGISTER_MAP["WidthMax"] == 64
    assert REGISTER_MAP["OffsetY"] + REGISTER_MAP["Height"] <= REGISTER_MAP["HeightMax"] == 48


@given(st.binary(max_size=60))
def test_any_datagram_is_answered_or_not(datagram: bytes) -> None:
    REGISTER_MAP.reset()
    Control(REGISTER_MAP, lambda names: None, lambda block_id, first, last: None).answer(datagram, ("127.0.0.1", 5), 0)


NAMES = st.sampled_from([*FRAME_FAULTS, "loss", "resend", "first_id", "held", "seed", "freeze_every", "drop_every", ""])
VALUES = st.one_of(st.floats().map(str), st.integers().map(str), st.sampled_from(["on", "off", "2s", "0.5:1s", "3:", ":1s", ""]))


@given(st.lists(st.tuples(NAMES, VALUES).map("=".join), max_size=4).map(",".join) | st.text(max_size=30))
def test_a_specification_is_a_plan_or_refused(spec: str) -> None:
    try:
        assert isinstance(parse_faults(spec), FaultPlan)
    except UsageError as error:
        assert str(error).startswith("--faults: `")
