"""A simulated fleet under the scheduler: it does what actions say and remembers what must never happen."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from squall.scheduling import Scheduler
from squall.scheduling import model as m
from squall.scheduling.autoscaling import PREFETCH_MAX, PREFETCH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class Box:
    function: str
    node: str
    ready: bool = False
    inputs: dict[str, int] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    #: All inputs that it ever had.
    had: set[str] = field(default_factory=set)
    #: A direct input that makes way for others.
    line: str = ""
    gpus: tuple[tuple[str, int], ...] = ()


class World:
    def __init__(self) -> None:
        counter = itertools.count()
        self.scheduler = Scheduler(lambda: f"ct-{next(counter)}")
        self.now = 0.0
        self.functions: dict[str, m.FunctionConfig] = {}
        self.nodes: dict[str, m.NodeJoined] = {}
        self.boxes: dict[str, Box] = {}
        self.arrived: set[str] = set()
        self.direct: set[str] = set()
        self.final: dict[str, m.Deliver | m.FailInput | m.TakeApart] = {}
        self.attempts: dict[str, int] = {}
        self.generation = itertools.count()
        self.stopping: set[str] = set()
        #: What inputs in containers wait for, how deep inputs are nested, and what nodes will give back.
        self.awaits: dict[str, set[str]] = {}
        self.depth: dict[str, int] = {}
        self.recalled: list[tuple[str, str, int]] = []
        #: The shortest duration that was told, by function.
        self.quickest: dict[str, float] = {}
        #: How many inputs of the user's each input is, and what is to arrive of chunks that came apart.
        self.counts: dict[str, int] = {}
        self.of: dict[str, str] = {}
        self.parts: dict[str, tuple[str, ...]] = {}
        self.pieces: list[m.InputsArrived] = []

    # ---------------------------------------------------------------------------------------------- events

    def send(self, *events: m.Event) -> list[m.Action]:
        actions = self.scheduler.handle_all(events, self.now)
        for action in actions:
            self._apply(action)
        self.check()
        return actions + self._arrive_apart()

    def _arrive_apart(self) -> list[m.Action]:
        actions: list[m.Action] = []
        while self.pieces:
            actions += self.send(self.pieces.pop(0))
        return actions

    def function(self, config: m.FunctionConfig) -> list[m.Action]:
        self.functions[config.id] = config
        return self.send(m.FunctionAdded(config))

    def node(self, node: m.NodeJoined) -> list[m.Action]:
        self.nodes[node.node] = node
        return self.send(node)

    def arrive(self, function: str, count: int) -> list[m.Action]:
        ids = tuple(f"in-{next(self.generation)}" for _ in range(count))
        self.arrived.update(ids)
        return self.send(m.InputsArrived(function, ids))

    def arrive_in_chunks(self, function: str, counts: tuple[int, ...]) -> list[m.Action]:
        ids = tuple(f"in-{next(self.generation)}" for _ in counts)
        self.arrived.update(ids)
        self.counts.update(zip(ids, counts, strict=True))
        self.of.update(dict.fromkeys(ids, function))
        return self.send(m.InputsArrived(function, ids, counts=counts))

    def weight(self, inputs: Iterable[str]) -> int:
        return sum(self.counts.get(i, 1) for i in inputs)

    def dial(self, function: str) -> list[m.Action]:
        """A caller wants a line of its own into a container."""
        line = f"in-{next(self.generation)}"
        self.arrived.add(line)
        self.direct.add(line)
        return self.send(m.InputsArrived(function, (line,), direct=True))

    def nest(self, parent: str, function: str, count: int) -> list[m.Action]:
        """An input in a container calls a function, and waits for it."""
        ids = tuple(f"in-{next(self.generation)}" for _ in range(count))
        self.arrived.update(ids)
        self.depth.update(dict.fromkeys(ids, self.depth.get(parent, 0) + 1))
        self.awaits.setdefault(parent, set()).update(ids)
        (box,) = [b for b in self.boxes.values() if parent in b.inputs]
        box.started.add(parent)
        return self.send(m.InputsArrived(function, ids), m.InputsAwaited(parent, ids))

    def give_back(self) -> list[m.Action]:
        """A node answers to a recall: by nothing, if the input has begun."""
        container, input_id, attempt = self.recalled.pop(0)
        box = self.boxes.get(container)
        if box is None or box.inputs.get(input_id) != attempt or input_id in box.started:
            return []
        del box.inputs[input_id]
        return self.send(m.InputFinished(container, input_id, attempt, "cancelled", 0.0))

    def ready(self, container: str) -> list[m.Action]:
        self.boxes[container].ready = True
        return self.send(m.ContainerReady(container))

    def start_input(self, container: str, input_id: str) -> list[m.Action]:
        box = self.boxes[container]
        box.started.add(input_id)
        box.line = "" if box.line == input_id else box.line
        return self.send(m.InputStarted(container, input_id, box.inputs[input_id]))

    def finish(
        self, container: str, input_id: str, status: str = "ok", seconds: float = 0.1, done: int | None = None
    ) -> list[m.Action]:
        """`done`: so many of a chunk's inputs are, and the others come back."""
        box = self.boxes[container]
        attempt = box.inputs.pop(input_id)
        box.started.discard(input_id)
        box.line = "" if box.line == input_id else box.line
        if input_id not in self.direct:
            each = seconds / max(1, self.counts.get(input_id, 1) if done is None else done)
            self.quickest[box.function] = min(each, self.quickest.get(box.function, each))
        count = self.counts.get(input_id, 1)
        done = count if done is None else min(done, count)
        actions = self.send(m.InputFinished(container, input_id, attempt, status, seconds, done))
        if done < count and m.Deliver(input_id, attempt) in actions:
            self._come_apart(input_id, attempt, count - done)
        return actions + self._arrive_apart()

    def exit(self, container: str, *, fault: bool = False, reason: str = "killed") -> list[m.Action]:
        box = self.boxes.pop(container)
        self._wait_no_more(box)
        returned = tuple((i, a) for i, a in box.inputs.items() if i not in box.started)
        return self.send(m.ContainerExited(container, fault, reason, f"container {reason}", returned))

    def rejoin(self, node: str, forgotten: int) -> list[m.Action]:
        """It comes back; what was sent to it last never arrived, `forgotten` inputs a container at most."""
        containers = []
        for name, box in self.boxes.items():
            if box.node == node:
                lost = [i for i in reversed(box.inputs) if i not in box.started][:forgotten]
                box.inputs = {i: a for i, a in box.inputs.items() if i not in lost}
                inputs = tuple(m.RunningAttempt(i, a, i in box.started) for i, a in box.inputs.items())
                containers.append(m.KnownContainer(name, box.function, box.ready, inputs))
        return self.send(replace(self.nodes[node], containers=tuple(containers)))

    def lose(self, node: str) -> list[m.Action]:
        del self.nodes[node]
        for box in self.boxes.values():
            if box.node == node:
                self._wait_no_more(box)
        self.boxes = {k: b for k, b in self.boxes.items() if b.node != node}
        return self.send(m.NodeLost(node))

    def tick(self, seconds: float) -> list[m.Action]:
        self.now += seconds
        return self.send(m.Tick())

    # --------------------------------------------------------------------------------------------- actions

    def _apply(self, action: m.Action) -> None:
        match action:
            case m.StartContainer():
                assert action.container not in self.boxes
                self.boxes[action.container] = Box(action.function, action.node, gpus=action.gpus)
                self._check_cpu(action.node)
            case m.AssignInputs():
                box = self.boxes[action.container]
                assert box.ready, "inputs for a container that is not ready"
                for input_id, attempt in action.inputs:
                    assert input_id not in self.final, "a finished input was dispatched"
                    assert attempt > self.attempts.get(input_id, 0), "an attempt number came again"
                    assert not any(input_id in b.inputs for b in self.boxes.values()), "two live attempts"
                    self.attempts[input_id] = attempt
                    if input_id in self.direct:
                        assert attempt == 1, "a line was run again"
                        assert not box.inputs, "a line into a container at work"
                        box.line = input_id
                    box.inputs[input_id] = attempt
                    box.had.add(input_id)
                self._check_room(box)
            case m.StopContainer():
                self.stopping.add(action.container)
            case m.RevokeInputs(recall=True):
                self.recalled += [(action.container, *attempt) for attempt in action.inputs]
            case m.Deliver() | m.FailInput():
                assert action.input not in self.final, "an input ended twice"
                self.final[action.input] = action
                self._ended(action.input)
                for box in self.boxes.values():
                    if isinstance(action, m.FailInput):
                        box.inputs.pop(action.input, None)
                        box.line = "" if box.line == action.input else box.line
            case m.TakeApart():
                assert self.counts[action.input] > 1, "a single input came apart"
                self.final[action.input] = action
                self._come_apart(action.input, action.attempt, self.counts[action.input], action.victim_runs)
                self._ended(action.input)
            case _:
                pass

    def _come_apart(self, chunk: str, attempt: int, count: int, victim_runs: int = 0) -> None:
        """As the server does it: the rest arrives as single inputs."""
        ids = tuple(f"in-{next(self.generation)}" for _ in range(count))
        self.arrived.update(ids)
        self.attempts.update(dict.fromkeys(ids, attempt + 1))
        self.parts[chunk] = ids
        self.pieces.append(
            m.InputsArrived(self.of[chunk], ids, attempt + 1, first=True, victim_runs=victim_runs)
        )

    # ---------------------------------------------------------------------------------------------- checks

    def check(self) -> None:
        for name, node in self.nodes.items():
            boxes = [b for b in self.boxes.values() if b.node == name]
            demands = [self.functions[b.function].demand for b in boxes]
            assert sum(d.memory_mib for d in demands) <= node.memory_mib
            for kind, count in node.gpus:
                assert sum(n for b in boxes for k, n in b.gpus if k == kind) <= count

    def _check_cpu(self, node: str) -> None:
        """When a container is placed, those that do not wait for others have the CPU that they ask for."""
        busy = [b for b in self.boxes.values() if b.node == node and not self.lends(b)]
        assert sum(self.functions[b.function].demand.cpu_millis for b in busy) <= self.nodes[node].cpu_millis

    def lends(self, box: Box) -> bool:
        config = self.functions[box.function]
        waiting = sum(bool(self.awaits.get(i)) for i in box.inputs) * max(1, config.batch)
        return 0 < min(len(box.inputs), config.capacity) <= waiting

    def _ended(self, input_id: str) -> None:
        self.awaits.pop(input_id, None)
        for children in self.awaits.values():
            children.discard(input_id)

    def _wait_no_more(self, box: Box) -> None:
        for input_id in box.inputs:
            self.awaits.pop(input_id, None)

    def active(self) -> list[tuple[str, str]]:
        """Inputs in containers that can go on: container, input."""
        return [(c, i) for c, b in self.boxes.items() for i in b.inputs if not self.awaits.get(i)]

    def _check_room(self, box: Box) -> None:
        config = self.functions[box.function]
        if config.single_use:
            assert len(box.had) == 1, "a single-use container got a second input"
        most = config.capacity
        if box.function in self.quickest:
            ahead = int(config.capacity * PREFETCH_SECONDS / max(self.quickest[box.function], 1e-9))
            most = max(most, min(PREFETCH_MAX, ahead))
        newest = next(reversed(box.inputs))
        before = self.weight(box.inputs) - self.counts.get(newest, 1) - bool(box.line)
        behind_another = self.counts.get(newest, 1) > 1 and len(box.inputs) <= config.capacity + 1
        assert before < most or behind_another, "more than the container works on, and may have ahead"

    def run_to_the_end(self, limit: int = 10_000) -> None:
        """Everything goes well from now on: each container becomes ready, each input ends."""
        for _ in range(limit):
            stopped = [c for c in self.boxes if c in self.stopping]
            starting = [c for c, b in self.boxes.items() if not b.ready]
            busy = self.active()
            if self.recalled:
                self.give_back()
            elif stopped:
                self.exit(stopped[0])
            elif starting:
                self.ready(starting[0])
            elif busy:
                self.finish(*busy[0])
            else:
                wake = self.scheduler.next_wakeup()
                if wake is None:
                    return
                self.now = max(self.now, wake)
                self.tick(0.0)
        raise AssertionError("it never comes to rest")
