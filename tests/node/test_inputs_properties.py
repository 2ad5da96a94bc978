"""Random lives of a container's inputs: nothing is lost, and never do more run than may."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from squall.node.inputs import Inputs, OutOfTurnError
from squall.wire.messages import NodeInput
from squall.wire.values import Payload

pick = st.integers(0, 1_000_000)


class Container(RuleBasedStateMachine):
    @initialize(slots=st.integers(1, 5), tells=st.booleans())
    def begin(self, slots: int, *, tells: bool) -> None:
        self.inputs = Inputs(slots, tells=tells)
        self.tells = tells
        self.now = 0.0
        self.added = 0
        #: Numbers that ended, one way or another.
        self.over: set[int] = set()

    @rule(count=st.integers(1, 8))
    def more(self, count: int) -> None:
        for _ in range(count):
            self.added += 1
            self.inputs.add([NodeInput(f"fc-1:{self.added}", 1, Payload(), "fc-1")])

    @rule(seconds=st.sampled_from([0.0, 0.001, 1.0]))
    def give(self, seconds: float) -> None:
        self.now += seconds
        while self.inputs.take(self.now) is not None:
            pass

    @precondition(lambda self: self.inputs.sent)
    @rule(which=pick)
    def runner_answers(self, which: int) -> None:
        attempts = sorted(self.inputs.sent, key=lambda a: a.number)
        attempt = attempts[which % len(attempts)]
        if self.tells and not self.inputs.has_begun(attempt):
            self.inputs.begin(attempt.number, self.now)
        elif not self.inputs.has_begun(attempt) and not attempt.dropped:
            with pytest.raises(OutOfTurnError):
                self.inputs.finish(attempt.number, self.now)
        else:
            done, seconds = self.inputs.finish(attempt.number, self.now)
            assert done is attempt
            assert seconds >= 0
            self.over.add(attempt.number)

    @precondition(lambda self: self.inputs.unbegun())
    @rule(which=pick)
    def server_revokes(self, which: int) -> None:
        unbegun = self.inputs.unbegun()
        attempt = unbegun[which % len(unbegun)]
        if not self.inputs.drop(attempt):
            self.over.add(attempt.number)

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "inputs"):
            return
        inputs = self.inputs
        begun, sent = {a.number for a in inputs.begun}, {a.number for a in inputs.sent}
        assert begun <= sent
        assert sent | {a.number for a in inputs.waiting} | self.over == set(range(1, self.added + 1))
        assert not self.over & sent
        if not self.tells:
            assert len(begun) == min(len(sent), inputs.slots), "a slot is free, and one waits"


Container.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestContainer = Container.TestCase
