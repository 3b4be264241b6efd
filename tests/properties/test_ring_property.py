"""A slot is never leased twice, whatever is leased, returned, returned twice or quarantined, in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_agent.ring import Ring


class RingMachine(RuleBasedStateMachine):
    """Compares a ring with three sets."""

    @initialize(slots=st.integers(1, 5))
    def make(self, slots: int) -> None:
        self.ring = Ring(slots, 64)
        self.free = set(range(slots))
        self.leased: set[int] = set()
        self.quarantined: set[int] = set()

    @rule()
    def lease(self) -> None:
        slot = self.ring.lease()
        if not self.free:
            assert slot is None
            return
        assert slot in self.free
        self.free.remove(slot)
        self.leased.add(slot)

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        slot = data.draw(st.integers(0, self.ring.slots - 1))
        if slot in self.free:
            with pytest.raises(ValueError, match="not leased"):
                self.ring.give_back(slot)
            return
        self.ring.give_back(slot)
        if slot in self.leased:
            self.leased.remove(slot)
            self.free.add(slot)

    @rule(data=st.data())
    def quarantine(self, data: st.DataObject) -> None:
        slot = data.draw(st.integers(0, self.ring.slots - 1))
        if slot not in self.leased:
            assert not self.ring.quarantine(slot)
            return
        assert self.ring.quarantine(slot)
        self.leased.remove(slot)
        self.quarantined.add(slot)

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "ring"):
            assert self.ring.free == len(self.free)
            assert self.ring.quarantined == len(self.quarantined)


RingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRing = RingMachine.TestCase
