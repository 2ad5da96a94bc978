"""Random histories of a fleet: what the scheduler promises holds in all of them."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from squall.scheduling import model as m
from tests.scheduling.world import World

pick = st.integers(0, 1_000_000)
#: Functions whose containers take several inputs, or one in their life.
SHARING = (
    m.FunctionConfig("fu-many", "ws-1", m.Demand(500, 64), capacity=6, target=4, max_retries=1),
    m.FunctionConfig("fu-batch", "ws-0", m.Demand(500, 64), capacity=8, target=4, batch=4),
    m.FunctionConfig("fu-once", "ws-1", m.Demand(500, 64), single_use=True, max_retries=1),
)
#: The node with which everything comes to its end.
LAST = (
    m.NodeJoined("no-last", 64_000, 65_536, (("H100", 8),)),
    m.NodeJoined("no-last", 2_500, 832, (("H100", 1),)),
)
#: How deeply inputs call others.
DEEPEST = 4
FUNCTIONS = ["fu-0", "fu-1", "fu-min", *(c.id for c in SHARING)]
#: Those whose inputs may travel in chunks.
PLAIN = ["fu-0", "fu-min"]


class Fleet(RuleBasedStateMachine):
    @initialize(last=st.sampled_from(LAST))
    def begin(self, last: m.NodeJoined) -> None:
        self.world, self.last = World(), last
        for n, (cpu, gpus) in enumerate([(1000, ()), (2000, (("H100", 1), ("A100", 2)))]):
            demand = m.Demand(cpu, 256, gpus)
            self.world.function(
                m.FunctionConfig(f"fu-{n}", f"ws-{n}", demand, max_retries=n, initial_delay=2.0)
            )
        self.world.function(
            m.FunctionConfig("fu-min", "ws-0", m.Demand(500, 64), min_containers=1, max_containers=2)
        )
        for config in SHARING:
            self.world.function(config)

    @rule(cpu=st.integers(1, 8), gpus=st.integers(0, 4), name=st.integers(0, 2))
    def node_joins(self, cpu: int, gpus: int, name: int) -> None:
        if f"no-{name}" not in self.world.nodes:
            self.world.node(m.NodeJoined(f"no-{name}", cpu * 1000, 2048, (("A100", gpus),)))

    @precondition(lambda self: self.world.nodes)
    @rule(which=pick)
    def node_is_lost(self, which: int) -> None:
        self.world.lose(sorted(self.world.nodes)[which % len(self.world.nodes)])

    @precondition(lambda self: self.world.nodes)
    @rule(which=pick, forgotten=st.integers(0, 2))
    def node_comes_back(self, which: int, forgotten: int) -> None:
        self.world.rejoin(sorted(self.world.nodes)[which % len(self.world.nodes)], forgotten)

    @rule(which=st.sampled_from(FUNCTIONS), count=st.integers(1, 12))
    def inputs_arrive(self, which: str, count: int) -> None:
        self.world.arrive(which, count)

    @rule(which=st.sampled_from(PLAIN), counts=st.lists(st.integers(2, 40), min_size=1, max_size=6))
    def chunks_arrive(self, which: str, counts: list[int]) -> None:
        self.world.arrive_in_chunks(which, tuple(counts))

    @rule(which=st.sampled_from(FUNCTIONS))
    def caller_dials(self, which: str) -> None:
        self.world.dial(which)

    @precondition(lambda self: any(not b.ready for b in self.world.boxes.values()))
    @rule(which=pick, good=st.booleans(), retry=st.booleans(), shortage=st.booleans())
    def container_starts(self, which: int, good: bool, retry: bool, shortage: bool) -> None:
        starting = sorted(c for c, b in self.world.boxes.items() if not b.ready)
        container = starting[which % len(starting)]
        if good:
            self.world.ready(container)
        else:
            del self.world.boxes[container]
            self.world.send(m.ContainerFailed(container, "it failed", retry, shortage))

    @precondition(lambda self: any(self.world.active()))
    @rule(which=pick, function=st.sampled_from(FUNCTIONS), count=st.integers(1, 4))
    def input_calls(self, which: int, function: str, count: int) -> None:
        active = sorted(self.world.active())
        _, parent = active[which % len(active)]
        if self.world.depth.get(parent, 0) < DEEPEST:
            self.world.nest(parent, function, count)

    @precondition(lambda self: self.world.recalled)
    @rule()
    def recalled_comes_back(self) -> None:
        self.world.give_back()

    @precondition(lambda self: any(self.world.active()))
    @rule(
        which=pick,
        status=st.sampled_from(["ok", "exception", "timeout", "start"]),
        ms=st.integers(0, 100),
        done=st.one_of(st.none(), st.integers(0, 40)),
    )
    def input_moves(self, which: int, status: str, ms: int, done: int | None) -> None:
        held = sorted(self.world.active())
        container, input_id = held[which % len(held)]
        if status == "start":
            self.world.start_input(container, input_id)
        else:
            done = done if self.world.counts.get(input_id, 1) > 1 else None
            self.world.finish(container, input_id, status, ms / 1000, done)

    @precondition(lambda self: self.world.boxes)
    @rule(which=pick, fault=st.booleans())
    def container_exits(self, which: int, fault: bool) -> None:
        self.world.exit(sorted(self.world.boxes)[which % len(self.world.boxes)], fault=fault)

    @precondition(lambda self: self.world.arrived)
    @rule(which=pick)
    def stale_outcome(self, which: int) -> None:
        input_id = sorted(self.world.arrived)[which % len(self.world.arrived)]
        attempt = self.world.attempts.get(input_id, 0)
        actions = self.world.send(m.InputFinished("ct-nowhere", input_id, attempt, "ok", 0.1))
        assert m.DropStale(input_id, attempt) in actions

    @precondition(lambda self: self.world.arrived)
    @rule(which=pick)
    def cancel(self, which: int) -> None:
        self.world.send(m.InputsCancelled((sorted(self.world.arrived)[which % len(self.world.arrived)],)))

    @rule(seconds=st.sampled_from([0.1, 1.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        for action in self.world.tick(seconds):
            if isinstance(action, m.StopContainer):
                self.world.exit(action.container)

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "world"):
            return
        containers = self.world.scheduler.containers()
        assert set(containers) == set(self.world.boxes)
        for name, box in self.world.boxes.items():
            assert containers[name].inputs == box.inputs
            assert containers[name].weight == self.world.weight(box.inputs)
            assert containers[name].waiting == {i for i in box.inputs if self.world.awaits.get(i)}

    @invariant()
    def each_input_is_in_one_place(self) -> None:
        """Waiting, in a container, due later, or ended: by the model and by the real state machine alike."""
        if not hasattr(self, "world"):
            return
        scheduler, world = self.world.scheduler, self.world
        ledger = scheduler._ledger.inputs
        assert ledger.keys() == world.arrived - world.final.keys()
        queued = [i for function in scheduler._functions.values() for i in function.queue]
        held = {i: name for name, box in world.boxes.items() for i in box.inputs}
        assert len(queued) == len(set(queued))
        assert scheduler.waiting() == world.weight(queued)
        for input_id, record in ledger.items():
            places = (input_id in queued, input_id in held, record.due is not None)
            assert sum(places) == 1, f"{input_id} is queued, held, due later: {places}"
            assert record.container == held.get(input_id)
            assert record.attempt == world.attempts.get(input_id, 0)

    def teardown(self) -> None:
        """In the end every input has exactly one outcome, and only what must stay does."""
        if not hasattr(self, "world"):
            return
        for node in sorted(self.world.nodes) if self.last is LAST[1] else ():
            self.world.lose(node)
        self.world.node(self.last)
        self.world.run_to_the_end()
        assert set(self.world.final) == self.world.arrived
        assert len(self.world.boxes) == 1, "fu-min keeps one, everything else ended"


Fleet.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestFleet = Fleet.TestCase
