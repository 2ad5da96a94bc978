"""Random histories of inputs: the scheduler does what the model says, and wrong schedulers are caught."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from squall.scheduling.inputs import InputLedger
from squall.scheduling.scheduler import Scheduler
from tests.scheduling.delivery import BAD, FUNCTIONS, NODES, Delivery, Input

if TYPE_CHECKING:
    from collections.abc import Callable

pick = st.integers(0, 1_000_000)


class Histories(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.delivery = Delivery()
        for node in NODES:
            self.delivery.join(node)

    def _held(self) -> list[Input]:
        return [i for i in self.delivery.inputs.values() if i.place in self.delivery.containers]

    def _one(self, which: int) -> Input:
        held = self._held()
        return held[which % len(held)]

    def _container(self, which: int) -> str:
        """One with inputs, if there is one: what ends without any says nothing of delivery."""
        busy = [c for c in self.delivery.containers if self.delivery.held(c)] or [*self.delivery.containers]
        return busy[which % len(busy)]

    @rule(function=st.sampled_from(sorted(FUNCTIONS)), count=st.integers(1, 4))
    def inputs_arrive(self, function: str, count: int) -> None:
        self.delivery.arrive(function, count)

    @precondition(lambda self: any(not c.ready for c in self.delivery.containers.values()))
    @rule()
    def containers_are_ready(self) -> None:
        for name in [c for c, each in self.delivery.containers.items() if not each.ready]:
            self.delivery.ready(name)

    @precondition(lambda self: self._held())
    @rule(which=pick)
    def an_input_begins(self, which: int) -> None:
        self.delivery.begin(self._one(which))

    @precondition(lambda self: any(FUNCTIONS[i.function].generator for i in self._held()))
    @rule(which=pick)
    def a_generator_gives_a_value(self, which: int) -> None:
        generators = [i for i in self._held() if FUNCTIONS[i.function].generator]
        self.delivery.give_value(generators[which % len(generators)])

    @precondition(lambda self: self._held())
    @rule(which=pick, status=st.sampled_from(["ok", *BAD]))
    def an_input_ends(self, which: int, status: str) -> None:
        self.delivery.finish(self._one(which), status)

    @precondition(lambda self: self.delivery.containers)
    @rule(which=pick, fault=st.booleans())
    def a_container_ends(self, which: int, fault: bool) -> None:
        self.delivery.exit(self._container(which), fault=fault)

    @precondition(lambda self: self._held())
    @rule(which=pick)
    def a_victim_is_killed_again_and_again(self, which: int) -> None:
        """So often that it must fail; by chance alone it seldom comes to that."""
        victim = self._one(which)
        for _ in range(4):
            for name in [c for c, each in self.delivery.containers.items() if not each.ready]:
                self.delivery.ready(name)
            if victim.place in self.delivery.containers:
                self.delivery.begin(victim)
                self.delivery.exit(victim.place, fault=False)

    @precondition(lambda self: self.delivery.past)
    @rule(which=pick)
    def an_old_attempt_speaks(self, which: int) -> None:
        past = self.delivery.past
        self.delivery.late(*past[which % len(past)])

    @precondition(lambda self: self.delivery.inputs)
    @rule(which=pick)
    def a_call_is_cancelled(self, which: int) -> None:
        inputs = [*self.delivery.inputs.values()]
        self.delivery.cancel(inputs[which % len(inputs)])

    @rule(node=st.sampled_from(NODES))
    def a_lease_ends(self, node: str) -> None:
        self.delivery.lose(node)

    @rule(node=st.sampled_from(NODES), unread=pick)
    def a_node_comes(self, node: str, unread: int) -> None:
        """Anew, or back within its lease."""
        if node in self.delivery.nodes:
            lost = {i.id for n, i in enumerate(self._held()) if unread >> n % 16 & 1}
            self.delivery.come_back(node, lost)
        else:
            self.delivery.join(node)

    @rule(missing=st.sets(st.sampled_from(NODES)))
    def the_server_starts_again(self, missing: set[str]) -> None:
        self.delivery.restart(missing)

    @rule(seconds=st.sampled_from([0.5, 5.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.delivery.wait(seconds)

    def teardown(self) -> None:
        """Everything goes well from now on: each input comes to its end."""
        if not hasattr(self, "delivery"):
            return
        for node in NODES:
            if node not in self.delivery.nodes:
                self.delivery.join(node)
        for _ in range(500):
            starting = [c for c, each in self.delivery.containers.items() if not each.ready]
            if over := [c for c, each in self.delivery.containers.items() if each.stopping]:
                self.delivery.exit(over[0], fault=False)
            elif starting:
                self.delivery.ready(starting[0])
            elif held := self._held():
                self.delivery.finish(held[0], "ok")
            elif all(i.place == "ended" for i in self.delivery.inputs.values()):
                return
            else:
                self.delivery.wait(5.0)
        raise AssertionError("it never comes to rest")


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def _unfenced(ledger: InputLedger, container: str, input_id: str, attempt: int) -> Any:
    record = ledger.inputs.get(input_id)
    return record if record is not None and record.container is not None else None


def _never_a_victim(original: Callable[..., Any]) -> Callable[..., Any]:
    def mutant(ledger: InputLedger, record: Any, event: Any, function: Any, now: float) -> Any:
        record.victim_runs = 0
        return original(ledger, record, event, function, now)

    return mutant


def _yields_forgotten(_scheduler: Scheduler, _event: Any, _now: float) -> None:
    return


def _spends(original: Callable[..., Any]) -> Callable[..., Any]:
    """What had not begun counts as begun."""

    def mutant(ledger: InputLedger, container: Any, event: Any, function: Any, now: float) -> Any:
        for input_id in container.inputs:
            ledger.inputs[input_id].started = True
        return original(ledger, container, type(event)(event.container, True, "oom"), function, now)

    return mutant


def _forgets_lost_assignments(original: Callable[..., Any]) -> Callable[..., Any]:
    def mutant(scheduler: Scheduler, node: Any, known: Any, now: float) -> Any:
        container = scheduler._containers.get(known.id)
        for running in set(container.inputs) - {a.input for a in known.inputs} if container else ():
            scheduler._ledger.forget(running)
        return original(scheduler, node, known, now)

    return mutant


def _numbers_begin_again(original: Callable[..., Any]) -> Callable[..., Any]:
    def mutant(ledger: InputLedger, event: Any, function: Any) -> Any:
        return original(ledger, type(event)(event.function, event.inputs, 0), function)

    return mutant


MUTANTS: list[tuple[type, str, Callable[[Any], Any]]] = [
    (InputLedger, "current", lambda _: _unfenced),
    (InputLedger, "_ended", _never_a_victim),
    (InputLedger, "container_ended", _spends),
    (InputLedger, "arrive", _numbers_begin_again),
    (Scheduler, "_input_yielded", lambda _: _yields_forgotten),
    (Scheduler, "_adopt", _forgets_lost_assignments),
]


@pytest.mark.parametrize(("owner", "name", "mutate"), MUTANTS, ids=[n for _, n, _ in MUTANTS])
def test_a_wrong_scheduler_is_caught(
    owner: type, name: str, mutate: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that finds nothing wrong with these would show nothing."""
    monkeypatch.setattr(owner, name, mutate(getattr(owner, name)))
    quickly = settings(
        max_examples=1500,
        derandomize=True,  # what chance has found once is found each time
        stateful_step_count=40,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(Histories, settings=quickly)
