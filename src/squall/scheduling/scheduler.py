"""The scheduler: a state machine. Events go in, actions come out; nothing else happens.

What it promises (tests/scheduling checks it with random histories): a node's memory and GPUs are never
exceeded, and nothing is placed where the CPU is taken by containers that do not wait for nested calls; an
input that arrived ends in exactly one Deliver or FailInput; attempt numbers of an input only grow and an
outcome of any but the newest is dropped; what idles ends; what can never be placed fails at once.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from squall.scheduling import autoscaling, deadlocks, direct, placement
from squall.scheduling import model as m
from squall.scheduling.inputs import InputLedger
from squall.scheduling.state import Container, Function, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: Starts that may fail one after another before the waiting inputs fail.
MAX_START_FAILURES = 3
#: Seconds before a failed start is tried again, doubled each time.
START_BACKOFF = 0.5
#: Seconds until a start is tried again that failed for a shortage on its node.
SHORTAGE_PAUSE = 2.0


class Scheduler:
    """Decides for all workspaces. `new_id` gives unique container ids."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._nodes: dict[str, Node] = {}
        self._functions: dict[str, Function] = {}
        self._containers: dict[str, Container] = {}
        self._ledger = InputLedger(self._containers, self._functions)
        self._dirty: set[str] = set()
        #: Functions for whose next container there was no room, and containers that have come to rest since.
        self._cramped: set[str] = set()
        self._rested: list[Container] = []
        self._watch = deadlocks.Watch(
            deadlocks.Fleet(self._nodes, self._functions, self._containers, self._ledger.inputs)
        )
        self._actions: list[m.Action] = []
        self._handlers: dict[type[m.Event], Callable[[Any, float], None]] = {
            m.NodeJoined: self._node_joined,
            m.NodeLost: self._node_lost,
            m.FunctionAdded: self._function_added,
            m.FunctionRemoved: self._function_removed,
            m.InputsArrived: self._inputs_arrived,
            m.InputsAwaited: self._inputs_awaited,
            m.InputsCancelled: self._inputs_cancelled,
            m.ContainerReady: self._container_ready,
            m.ContainerFailed: self._container_failed,
            m.ContainerExited: self._container_exited,
            m.InputStarted: self._input_started,
            m.InputYielded: self._input_yielded,
            m.InputFinished: self._input_finished,
            m.Tick: self._tick,
        }

    # ------------------------------------------------------------------------------------------- interface

    def handle(self, event: m.Event, now: float) -> list[m.Action]:
        """The actions that one event leads to."""
        return self.handle_all((event,), now)

    def handle_all(self, events: Iterable[m.Event], now: float) -> list[m.Action]:
        """The actions that events of one moment lead to: assignments come out together."""
        self._actions = []
        for event in events:
            self._handlers[type(event)](event, now)
        self._settle(now)
        return self._actions

    def next_wakeup(self) -> float | None:
        """When a Tick is due, on the clock of `now`; None: nothing waits for time to pass."""
        times = (self._ledger.next_due(), self._watch.next_look(), *self._function_deadlines())
        return min((t for t in times if t is not None), default=None)

    def waiting(self, function: str | None = None) -> int:
        """Inputs of the user's that no container holds, of one function or of all."""
        functions = self._functions.values() if function is None else [self._functions[function]]
        return sum(f.queue.weight for f in functions)

    def spread(self, function: str) -> int:
        """See `autoscaling.spread`."""
        return autoscaling.spread(self._functions.get(function))

    def containers(self) -> Mapping[str, Container]:
        """All containers that have not exited (read only)."""
        return self._containers

    def nodes(self) -> Mapping[str, Node]:
        """All nodes that are here (read only)."""
        return self._nodes

    # ----------------------------------------------------------------------------------------------- nodes

    def _node_joined(self, event: m.NodeJoined, now: float) -> None:
        announced = {c.id for c in event.containers}
        known = self._nodes.get(event.node)
        for container_id in sorted(known.containers - announced) if known else []:
            self._remove_container(container_id, _lost(container_id), now)
        gpus = dict(event.gpus)
        node = Node(
            event.node,
            event.cpu_millis,
            event.memory_mib,
            gpus,
            event.cpu_millis,
            event.memory_mib,
            dict(gpus),
        )
        self._nodes[event.node] = node
        for container_id in known.containers if known else ():
            node.take(self._containers[container_id])
        for announced_one in event.containers:
            self._adopt(node, announced_one, now)
        self._dirty.update(self._functions)

    def _adopt(self, node: Node, known: m.KnownContainer, now: float) -> None:
        function = self._functions.get(known.function)
        if function is None or function.removed:
            self._actions.append(m.StopContainer(known.id, node.id, "no such function", drain=False))
            return
        container = self._containers.get(known.id)
        if container is None:
            demand = function.config.demand
            container = Container(
                known.id, known.function, node.id, demand.cpu_millis, demand.memory_mib, demand.gpus[:1], now
            )
            self._containers[known.id] = function.containers[known.id] = container
            container.used = known.ready or bool(known.inputs)  # for all that is known
            node.take(container)
        if known.ready:
            container.ready = True
        strangers = [
            (a.input, a.attempt) for a in known.inputs if not self._ledger.adopt(a, container, function)
        ]
        held = {a.input for a in known.inputs}
        for input_id in [i for i in container.inputs if i not in held]:
            end = self._ledger.put_back(self._ledger.inputs[input_id], container, function)
            self._actions += [end] if end else []
        if strangers:
            self._actions.append(m.RevokeInputs(container.id, node.id, tuple(strangers)))

    def _node_lost(self, event: m.NodeLost, now: float) -> None:
        node = self._nodes.pop(event.node, None)
        for container_id in sorted(node.containers) if node else ():
            self._remove_container(container_id, _lost(container_id), now)

    # ------------------------------------------------------------------------------------------- functions

    def _function_added(self, event: m.FunctionAdded, _now: float) -> None:
        function = self._functions.get(event.config.id)
        if function is None:
            self._functions[event.config.id] = Function(event.config)
        else:
            function.config = event.config
        self._dirty.add(event.config.id)

    def _function_removed(self, event: m.FunctionRemoved, _now: float) -> None:
        function = self._functions.get(event.function)
        if function is None:
            return
        function.removed = True
        for input_id in self._ledger.of_function(event.function):
            self._actions.append(m.FailInput(input_id, "removed", "the app was stopped"))
            self._ledger.forget(input_id)
        for container in function.live():
            self._stop(container, "the app was stopped", drain=False)
        if not function.containers:
            del self._functions[event.function]

    # ---------------------------------------------------------------------------------------------- inputs

    def _inputs_arrived(self, event: m.InputsArrived, _now: float) -> None:
        function = self._functions.get(event.function)
        if function is None or function.removed:
            for input_id in event.inputs:
                self._actions.append(m.FailInput(input_id, "removed", "the app was stopped"))
            return
        if event.direct:
            self._actions += direct.place(event, function, self._ledger)
            return
        self._ledger.arrive(event, function)
        self._dirty.add(event.function)

    def _inputs_awaited(self, event: m.InputsAwaited, _now: float) -> None:
        parent = self._ledger.inputs.get(event.parent)
        if parent is None or parent.container is None:
            return
        container, function = self._containers[parent.container], self._functions[parent.function]
        for child in self._ledger.nesting.wait(parent, container, event.inputs):
            if child.container is None and child.due is None:
                self._functions[child.function].queue.prefer(child)
                self._dirty.add(child.function)
        if container.waiting:
            function.nests = True
            self._dirty |= {parent.function, *self._watch.starved}
        if autoscaling.blocked(function.config, container):
            self._actions += self._ledger.recall(container)

    def _inputs_cancelled(self, event: m.InputsCancelled, _now: float) -> None:
        revoked: dict[str, list[tuple[str, int]]] = {}
        for input_id in event.inputs:
            record = self._ledger.inputs.get(input_id)
            if record is None:
                continue
            if record.container is not None:
                record.cancelled = True
                revoked.setdefault(record.container, []).append((input_id, record.attempt))
                continue
            self._ledger.forget(input_id)
            self._dirty.add(record.function)
            self._actions.append(m.FailInput(input_id, "cancelled", "the call was cancelled"))
        for container_id, attempts in revoked.items():
            node = self._containers[container_id].node
            self._actions.append(m.RevokeInputs(container_id, node, tuple(attempts), event.terminate))

    def _input_started(self, event: m.InputStarted, _now: float) -> None:
        record = self._ledger.current(event.container, event.input, event.attempt)
        if record is None:
            return
        record.started = True
        container = self._containers[event.container]
        if container.line == record.id:  # who would wait behind it goes elsewhere
            container.line = ""
            self._actions += self._ledger.recall(container)
            self._dirty.add(record.function)

    def _input_yielded(self, event: m.InputYielded, _now: float) -> None:
        record = self._ledger.current(event.container, event.input, event.attempt)
        if record is not None:
            record.started = record.yielded = True

    def _input_finished(self, event: m.InputFinished, now: float) -> None:
        record = self._ledger.current(event.container, event.input, event.attempt)
        if record is None:
            self._actions.append(m.DropStale(event.input, event.attempt))
            return
        function = self._functions[record.function]
        container = self._containers[event.container]
        if event.status != "cancelled" and not record.direct and event.count:
            function.observe_duration(event.seconds / event.count)
        self._ledger.take_out(record, container)
        back = self._ledger.came_back(record, event, function)
        self._actions.append(back or self._ledger.finish(record, event, function.config, now))
        if not container.inputs:
            container.since = now
            self._rested.append(container)
        self._dirty.add(record.function)

    # ------------------------------------------------------------------------------------------ containers

    def _container_ready(self, event: m.ContainerReady, now: float) -> None:
        container = self._containers.get(event.container)
        if container is None or container.ready:
            return
        function = self._functions[container.function]
        function.observe_start(now - container.since)
        function.start_failures, function.short = 0, False
        container.ready, container.since = True, now
        self._dirty.add(container.function)

    def _container_failed(self, event: m.ContainerFailed, now: float) -> None:
        container = self._containers.get(event.container)
        if container is None:
            return
        function = self._functions[container.function]
        exited = m.ContainerExited(event.container, fault=False, reason="start_failed", message=event.message)
        self._remove_container(event.container, exited, now)
        if container.stopping or function.removed:
            return
        if event.shortage:
            function.not_before = now + SHORTAGE_PAUSE
            if not function.short and function.queue:
                self._actions.append(m.Waiting(function.config.id, event.message))
            function.short = True
            return
        if container.since > function.failed_at:  # those that were under way together fail as one
            function.start_failures += 1
            function.failed_at = now
            function.not_before = now + START_BACKOFF * 2 ** (function.start_failures - 1)
        final = not event.retry or function.start_failures >= MAX_START_FAILURES
        if final and not any(c.ready for c in function.live()):
            self._fail_queue(function, "start_failed", event.message)

    def _container_exited(self, event: m.ContainerExited, now: float) -> None:
        self._remove_container(event.container, event, now)

    def _remove_container(self, container_id: str, event: m.ContainerExited, now: float) -> None:
        container = self._containers.pop(container_id, None)
        if container is None:
            return
        function = self._functions[container.function]
        del function.containers[container_id]
        node = self._nodes.get(container.node)
        if node is not None:
            node.give_back(container)
        self._actions.extend(self._ledger.container_ended(container, event, function, now))
        if function.removed and not function.containers:
            del self._functions[container.function]
        self._dirty.update(self._functions)  # room came free: anybody may use it

    def _stop(self, container: Container, reason: str, *, drain: bool = True) -> None:
        container.stopping = True
        self._actions.append(m.StopContainer(container.id, container.node, reason, drain))

    # ---------------------------------------------------------------------------------------------- settle

    def _tick(self, _event: m.Tick, now: float) -> None:
        for record in self._ledger.due(now):
            self._functions[record.function].queue.append(record)
            self._dirty.add(record.function)
        for function_id, function in self._functions.items():
            self._end_idle(function, now)
            if function.not_before and function.not_before <= now:
                function.not_before = 0.0
                self._dirty.add(function_id)

    def _end_idle(self, function: Function, now: float) -> None:
        live = autoscaling.able(function)
        surplus = len(live) - autoscaling.keep(function)
        idle = sorted((c for c in live if c.idle), key=lambda c: (c.since, c.id))
        for container in idle[: max(0, surplus)]:
            if container.since + function.config.scaledown_window <= now:
                self._stop(container, "idle")

    def _settle(self, now: float) -> None:
        """Give waiting inputs to ready containers, then start what is missing; who has least comes first."""
        self._break_deadlock(now)
        self._dirty |= self._ledger.nesting.take_resumed()
        dirty, self._dirty = self._dirty, set()
        functions = [
            self._functions[f] for f in dirty if f in self._functions and not self._functions[f].removed
        ]
        for name in self._watch.starved if functions else ():  # before somebody else gets what has come free
            self._scale_up(self._functions[name], now)
        for function in functions:
            self._end_used(function)
            self._assign(function)
        functions += self._given_hope(dirty)
        if len(functions) > 1:
            held = Counter(self._functions[c.function].config.workspace for c in self._containers.values())
            functions.sort(
                key=lambda f: (
                    held[f.config.workspace],
                    not f.queue.awaited,
                    len(f.containers),
                    f.config.id,
                )
            )
        for function in functions:
            self._scale_up(function, now)
        self._watch.note(functions, now)

    def _given_hope(self, dirty: set[str]) -> list[Function]:
        """Cramped functions, when a container has come to rest that may end for them."""
        rested, self._rested = self._rested, []
        if not self._cramped or not any(container.idle for container in rested):
            return []
        waiting = sorted(self._cramped - dirty)
        return [f for name in waiting if (f := self._functions.get(name)) is not None and not f.removed]

    def _assign(self, function: Function) -> None:
        if not function.queue:
            return
        batch = max(1, function.config.batch)
        ready = [c for c in function.live() if c.ready and autoscaling.room(function, c) > 0]
        ready.sort(key=lambda c: (not self._gathers(function, c), len(c.inputs), -c.since))
        for position, container in enumerate(ready):
            share = -(-len(function.queue) // (len(ready) - position))
            attempts = self._ledger.assign(function, container, -(-share // batch) * batch)
            if not attempts:
                return
            self._actions.append(m.AssignInputs(container.id, container.node, attempts))

    def _gathers(self, function: Function, container: Container) -> bool:
        """Whether a batch in the container has room, and begins without another one's end."""
        config = function.config
        if not config.batch:
            return False
        unbegun = self._ledger.unbegun(container)
        begun = len(container.inputs) - unbegun
        return unbegun % config.batch > 0 and begun + config.batch <= config.capacity

    def _end_used(self, function: Function) -> None:
        """A single-use container ends with its input."""
        if function.config.single_use:
            for container in function.live():
                if container.used and container.idle:
                    self._stop(container, "it was for one input")

    def _scale_up(self, function: Function, now: float) -> None:
        self._cramped.discard(function.config.id)
        live = autoscaling.able(function)
        outstanding = function.queue.weight + sum(c.load for c in live)
        missing = autoscaling.desired(function, outstanding) - len(live)
        if function.config.max_containers is not None:  # those that are ending still count
            missing = min(missing, function.config.max_containers - len(function.containers))
        if missing <= 0 or function.not_before > now or not self._check_possible(function):
            return
        for _ in range(missing):
            if not self._start(function, now):
                return
        function.said = ""

    def _check_possible(self, function: Function) -> bool:
        demand, nodes = function.config.demand, list(self._nodes.values())
        if not nodes:
            self._say(function, "no node is connected")
            return False
        if placement.possible(demand, nodes):
            return True
        self._fail_queue(function, "unplaceable", placement.explain(demand, nodes))
        return False

    def _start(self, function: Function, now: float) -> bool:
        demand = function.config.demand
        place = placement.choose(demand, self._nodes.values(), {})
        lent = self._lent_to(function) if place is None else {}
        if lent:
            place = placement.choose(demand, self._nodes.values(), lent)
        if place is None:
            self._cramped.add(function.config.id)
            self._make_room(function, lent)
            return False
        node, gpus = place
        container = Container(
            self._new_id(), function.config.id, node.id, demand.cpu_millis, demand.memory_mib, gpus, now
        )
        self._containers[container.id] = function.containers[container.id] = container
        node.take(container)
        self._actions.append(m.StartContainer(container.id, function.config.id, node.id, gpus))
        return True

    def _lent_to(self, function: Function) -> placement.Lent:
        """The CPU that it may borrow: as many containers may as there are inputs that somebody waits for."""
        lent: placement.Lent = {}
        if function.queue.awaited <= sum(not c.ready for c in function.live()):
            return lent
        lenders = {self._ledger.inputs[i].container or "" for i in self._ledger.nesting.waiting}
        for container in (self._containers[c] for c in lenders):
            if autoscaling.lends(self._functions[container.function].config, container):
                lent[container.node] = lent.get(container.node, 0) + container.cpu_millis
        return lent

    def _break_deadlock(self, now: float) -> None:
        victim = self._watch.look(self._ledger.nesting.waiting, now)
        if victim is not None:
            self._ledger.forget(victim.input)
            self._actions.append(m.FailInput(victim.input, "deadlock", victim.reason))
            self._dirty.add(victim.function)

    def _make_room(self, function: Function, lent: placement.Lent) -> None:
        """Idle containers of others end early for somebody whose own are all at work, as that of a function
        which waits for a call of itself; room comes with their exit, and nothing more ends until then.
        """
        live = function.live()
        if not live:
            self._say(function, "all nodes are full")
        function.room &= self._containers.keys()
        if function.room or not all(c.inputs for c in live):
            return
        idle = [c for f in self._functions.values() if f is not function for c in self._spare(f)]
        for container in placement.evictions(function.config.demand, self._nodes.values(), idle, lent):
            self._stop(container, "its room is needed")
            function.room.add(container.id)

    def _spare(self, function: Function) -> list[Container]:
        live = autoscaling.able(function)
        idle = sorted((c for c in live if c.idle), key=lambda c: (c.since, c.id))
        return idle[: max(0, len(live) - autoscaling.keep(function))]

    def _fail_queue(self, function: Function, code: str, message: str) -> None:
        for input_id in list(function.queue):
            self._ledger.forget(input_id)
            self._actions.append(m.FailInput(input_id, code, message))
        function.start_failures = 0

    def _say(self, function: Function, reason: str) -> None:
        if function.queue and function.said != reason:
            function.said = reason
            self._actions.append(m.Waiting(function.config.id, reason))

    def _function_deadlines(self) -> Iterable[float]:
        for function in self._functions.values():
            live = autoscaling.able(function)
            if function.not_before and (function.queue or len(live) < autoscaling.keep(function)):
                yield function.not_before
            if len(live) > autoscaling.keep(function):
                yield from (c.since + function.config.scaledown_window for c in live if c.idle)


def _lost(container_id: str) -> m.ContainerExited:
    return m.ContainerExited(container_id, fault=False, reason="lost", message="its node was lost")
