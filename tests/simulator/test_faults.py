"""What a fault specification says, and how faults are chosen."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.errors import UsageError
from edge_agent.simulator.faults import FRAME_FAULTS, FaultPlan, Faults, parse_faults


def test_a_whole_specification() -> None:
    spec = "loss=0.01, resend_loss=0.5,leader=0.001,drop_every=50,late=0.1:300ms,freeze_every=500:2s,power_every=1000,"
    assert parse_faults(spec + "resend=off,first_id=65530,held=1.5s,seed=7") == FaultPlan(
        rates={"leader": 0.001, "late": 0.1},
        every={"drop": 50, "freeze": 500, "power": 1000},
        durations_s={"late": 0.3, "freeze": 2.0},
        loss=0.01,
        resend_loss=0.5,
        can_resend=False,
        first_id=65530,
        held_s=1.5,
        seed=7,
    )


def test_no_specification_is_no_fault() -> None:
    faults = Faults(parse_faults(""))
    assert {faults.choose(n) for n in range(1, 1000)} == {""}
    assert not any(faults.choose_ignored(n) for n in range(1, 1000))
    assert not faults.choose_lost(1000).any()
    assert not faults.is_resend_lost()


@pytest.mark.parametrize("name", FRAME_FAULTS)
def test_every_fault_can_be_asked_for(name: str) -> None:
    plan = parse_faults(f"{name}=0.25,{name}_every=3")
    assert (plan.rates, plan.every) == ({name: 0.25}, {name: 3})


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("loss=2", "`loss=2`: 2 is no number from 0 to 1"),
        ("loss", "`loss`: nothing is no number"),
        ("loss=nan", "nan is no number"),
        ("smoke=0.1", "`smoke=0.1` is none that the camera knows. Name one of drop"),
        ("loss_every=3", "`loss_every=3` is none"),
        ("freeze=0.1", "`freeze=0.1` is none"),
        ("drop_every=0", "0 is no number from 1"),
        ("drop=0.1:2s", "drop has no duration"),
        ("freeze_every=5:9", "`freeze_every=5:9`: 9 is no duration. Give one such as 2s"),
        ("first_id=0", "0 is no number from 1 to 65535"),
        ("resend=maybe", "resend is `on` or `off`"),
        ("held=1.2.3s", "1.2.3 is no number"),
    ],
)
def test_a_bad_specification_says_what_and_what_instead(spec: str, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_faults(f"leader=0.5,{spec}")
    assert told in str(raised.value)


def test_rates_are_kept_and_follow_from_the_seed() -> None:
    def drawn(spec: str) -> list[str]:
        faults = Faults(parse_faults(spec))
        return [faults.choose(n) for n in range(1, 10_001)]

    assert 900 < drawn("leader=0.1").count("leader") < 1100
    assert drawn("leader=0.1,seed=3") == drawn("leader=0.1,seed=3") != drawn("leader=0.1,seed=4")
    alone, together = drawn("leader=0.1"), drawn("leader=0.1,trailer=0.01")
    assert all(both in (one, "trailer") for one, both in zip(alone, together, strict=True))


def test_every_so_many_is_exact() -> None:
    faults = Faults(parse_faults("black_every=3,power_every=4"))
    assert [faults.choose(n) for n in range(1, 8)] == ["", "", "black", "", "", "black", ""]
    assert [faults.event(n) for n in range(1, 8)] == ["", "", "", "power", "", "", ""]


def test_what_is_injected_comes_first() -> None:
    faults = Faults(parse_faults("black_every=1"))
    faults.inject("leader", 2)
    assert [faults.choose(n) for n in (1, 2, 3)] == ["leader", "leader", "black"]
    with pytest.raises(UsageError, match="smoke"):
        faults.inject("smoke")


def test_packets_are_lost_at_their_rate() -> None:
    lost = Faults(parse_faults("loss=0.1")).choose_lost(100_000)
    assert lost.dtype == np.bool_
    assert 0.09 < lost.mean() < 0.11
