"""A model of delivery: where an input is, which attempt counts, what its end leads to.

It says of every event what the scheduler must answer about inputs (docs/reliability.md, "What is promised").
Which container gets an input is the scheduler's affair: of an assignment it says only whether it may be.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from squall.scheduling import Scheduler
from squall.scheduling import model as m

FUNCTIONS = {
    "fu-plain": m.FunctionConfig("fu-plain", "ws-0", m.Demand(250, 64), capacity=3, target=2),
    "fu-tries": m.FunctionConfig("fu-tries", "ws-0", m.Demand(250, 64), max_retries=2, initial_delay=1.0),
    "fu-yields": m.FunctionConfig("fu-yields", "ws-1", m.Demand(250, 64), max_retries=1, generator=True),
}
NODES = ("no-0", "no-1")
#: How often an input runs whose container is killed under it.
RUNS = 3
#: Answers to which `retries` apply.
BAD = ("exception", "timeout", "failed")

#: What is said of an input: kind of action, input, attempt (0 for a failure), code of a failure.
Said = tuple[str, str, int, str]


@dataclass
class Input:
    """`place`: "queue", a container's id, "later" (a retry is due) or "ended"."""

    id: str
    function: str
    place: str = "queue"
    attempt: int = 0
    begun: bool = False
    yielded: bool = False
    cancelled: bool = False
    retries: int = 0
    kills: int = 0


@dataclass
class Container:
    function: str
    node: str
    ready: bool = False
    stopping: bool = False


class Delivery:
    """The model, and the real scheduler beside it: each method is an event, and compares the two."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers, self._containers = itertools.count(), itertools.count()
        self.inputs: dict[str, Input] = {}
        self.containers: dict[str, Container] = {}
        self.nodes: set[str] = set()
        #: Attempts that were, with the container that had each: what may be said of them late.
        self.past: list[tuple[str, str, int]] = []
        self.revoked: set[tuple[str, int]] = set()
        self.scheduler = self._begin()

    def _begin(self) -> Scheduler:
        scheduler = Scheduler(lambda: f"ct-{next(self._containers)}")
        for config in FUNCTIONS.values():
            scheduler.handle(m.FunctionAdded(config), self.now)
        return scheduler

    # ---------------------------------------------------------------------------------------------- events

    def join(self, node: str) -> None:
        self.nodes.add(node)
        self._send([], m.NodeJoined(node, 2000, 1024))

    def arrive(self, function: str, count: int) -> None:
        ids = tuple(f"in-{next(self._numbers)}" for _ in range(count))
        self.inputs.update((i, Input(i, function)) for i in ids)
        self._send([], m.InputsArrived(function, ids))

    def ready(self, container: str) -> None:
        self.containers[container].ready = True
        self._send([], m.ContainerReady(container))

    def begin(self, given: Input) -> None:
        given.begun = True
        self._send([], m.InputStarted(given.place, given.id, given.attempt))

    def give_value(self, given: Input) -> None:
        given.begun = given.yielded = True
        self._send([], m.InputYielded(given.place, given.id, given.attempt))

    def finish(self, given: Input, status: str) -> None:
        container, attempt = given.place, given.attempt
        self._left(given)
        if status in BAD and self._tries_again(given):
            said = ("Retrying", given.id, attempt, "")
        else:
            given.place = "ended"
            said = ("Deliver", given.id, attempt, "")
        self._send([said], m.InputFinished(container, given.id, attempt, status, 0.01))

    def late(self, container: str, input_id: str, attempt: int) -> None:
        """A word of an attempt that does not count any more."""
        self._send(
            [("DropStale", input_id, attempt, "")], m.InputFinished(container, input_id, attempt, "ok", 0.01)
        )
        before = replace(self.inputs[input_id])
        self._send([], m.InputStarted(container, input_id, attempt))
        self._send([], m.InputYielded(container, input_id, attempt))
        assert self.inputs[input_id] == before

    def cancel(self, given: Input) -> None:
        said: list[Said] = []
        if given.place in ("queue", "later"):
            given.place = "ended"
            said = [("FailInput", given.id, 0, "cancelled")]
        elif given.place != "ended":
            given.cancelled = True
        self._send(said, m.InputsCancelled((given.id,)))
        assert given.place == "ended" or (given.id, given.attempt) in self.revoked, "its node is told"

    def exit(self, container: str, *, fault: bool) -> None:
        held = self.held(container)
        returned = tuple((i.id, i.attempt) for i in held if not i.begun)
        del self.containers[container]
        said = self._ended(held, fault=fault, reason="oom" if fault else "killed")
        self._send(
            said, m.ContainerExited(container, fault, "oom" if fault else "killed", "it ended", returned)
        )

    def lose(self, node: str) -> None:
        """Its lease is over."""
        self.nodes.discard(node)
        gone = [c for c, each in self.containers.items() if each.node == node]
        held = [i for c in gone for i in self.held(c)]
        for container in gone:
            del self.containers[container]
        self._send(self._ended(held, fault=False, reason="lost"), m.NodeLost(node))

    def come_back(self, node: str, lost: set[str]) -> None:
        """Within its lease; an assignment that was under way may be lost. It costs nothing."""
        said: list[Said] = []
        for given in [i for c in self._of(node) for i in self.held(c) if i.id in lost and not i.begun]:
            self._left(given)
            said += self._back(given)
        self._send(said, self._announcement(node))

    def restart(self, missing: set[str]) -> None:
        """A new server: clients and disk tell it of the inputs, nodes of what runs. `missing` nodes are gone.

        A generator that gave a value is ended by its client.
        """
        for node in missing & self.nodes:
            for container in self._of(node):
                for given in self.held(container):
                    self._left(given)
                    given.place = "queue"
                del self.containers[container]
        self.nodes -= missing
        self.scheduler = self._begin()
        for given in self.inputs.values():
            given.retries = given.kills = 0
            if given.place != "ended" and (given.yielded or given.cancelled):
                self._left(given)
                given.place = "ended"
            elif given.place == "later":
                given.place = "queue"
        live = [i for i in self.inputs.values() if i.place != "ended"]
        arrivals = [m.InputsArrived(i.function, (i.id,), i.attempt) for i in live]
        self._send([], *arrivals, *(self._announcement(node) for node in sorted(self.nodes)))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._send([], m.Tick())

    # ------------------------------------------------------------------------------------------ the promise

    def _tries_again(self, given: Input) -> bool:
        config = FUNCTIONS[given.function]
        if given.yielded or given.cancelled or given.retries >= config.max_retries:
            return False
        given.retries += 1
        given.place = "later"
        return True

    def _ended(self, held: list[Input], *, fault: bool, reason: str) -> list[Said]:
        """What becomes of the inputs of a container that is no more."""
        said: list[Said] = []
        for given in held:
            begun = given.begun
            self._left(given)
            if not begun or given.cancelled or given.yielded:
                said += self._back(given)
            elif fault:
                if not self._tries_again(given):
                    given.place = "ended"
                    said.append(("FailInput", given.id, 0, reason))
            else:
                given.kills += 1
                if given.kills == RUNS:
                    given.place = "ended"
                    said.append(("FailInput", given.id, 0, "killed"))
        return said

    def _back(self, given: Input) -> list[Said]:
        """It may go on elsewhere, if it may at all."""
        if given.cancelled or given.yielded:
            given.place = "ended"
            return [("FailInput", given.id, 0, "cancelled" if given.cancelled else "interrupted")]
        return []

    def _left(self, given: Input) -> None:
        """Out of its container."""
        if given.place.startswith("ct-"):
            self.past.append((given.place, given.id, given.attempt))
            given.place, given.begun = "queue", False

    # ------------------------------------------------------------------------------------------- comparison

    def _send(self, expected: list[Said], *events: m.Event) -> None:
        actions = self.scheduler.handle_all(events, self.now)
        said = [one for action in actions if (one := _of_input(action)) is not None]
        assert sorted(said) == sorted(expected)
        self._see_due()
        for action in actions:
            self._take(action)
        self._compare()

    def _see_due(self) -> None:
        """Whose time has come, the scheduler may give out again."""
        ledger = self.scheduler._ledger.inputs
        for given in self.inputs.values():
            if given.place == "later" and ledger[given.id].due is None:
                given.place = "queue"

    def _take(self, action: m.Action) -> None:
        match action:
            case m.StartContainer():
                assert action.node in self.nodes
                self.containers[action.container] = Container(action.function, action.node)
            case m.AssignInputs():
                assert self.containers[action.container].ready
                for input_id, attempt in action.inputs:
                    given = self.inputs[input_id]
                    assert given.place == "queue", f"{input_id} is given out, and is in {given.place}"
                    assert given.function == self.containers[action.container].function
                    assert attempt > given.attempt, "numbers of attempts only grow"
                    assert not given.yielded, "a generator begins again after a value"
                    assert not given.cancelled
                    given.place, given.attempt = action.container, attempt
            case m.StopContainer():
                self.containers[action.container].stopping = True
            case m.RevokeInputs():
                self.revoked.update(action.inputs)
            case _:
                pass

    def _compare(self) -> None:
        """The real state machine has each input where the model has it."""
        ledger = self.scheduler._ledger.inputs
        queued = {i for f in self.scheduler._functions.values() for i in f.queue}
        assert ledger.keys() == {i.id for i in self.inputs.values() if i.place != "ended"}
        for record in ledger.values():
            given = self.inputs[record.id]
            place = record.container or ("queue" if record.id in queued else "later")
            assert (place, record.attempt) == (given.place, given.attempt)
        assert set(self.scheduler.containers()) == set(self.containers)

    # --------------------------------------------------------------------------------------------- questions

    def held(self, container: str) -> list[Input]:
        return [i for i in self.inputs.values() if i.place == container]

    def _of(self, node: str) -> list[str]:
        return [c for c, each in self.containers.items() if each.node == node]

    def _announcement(self, node: str) -> m.NodeJoined:
        known = []
        for container in self._of(node):
            running = tuple(m.RunningAttempt(i.id, i.attempt, i.begun) for i in self.held(container))
            each = self.containers[container]
            known.append(m.KnownContainer(container, each.function, each.ready, running))
        return m.NodeJoined(node, 2000, 1024, (), tuple(known))


def _of_input(action: m.Action) -> Said | None:
    match action:
        case m.Deliver() | m.Retrying() | m.DropStale():
            return type(action).__name__, action.input, action.attempt, ""
        case m.FailInput():
            return "FailInput", action.input, 0, action.code
        case _:
            return None
