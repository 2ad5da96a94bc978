"""Inputs that can never run, because all that could make room for them waits for them in the end.

The CPU of containers that wait is lent, so it is never why: `max_containers` is, or memory or GPUs are. One
input at a time fails: an end may be all that the others need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from squall.scheduling import autoscaling, placement
from squall.scheduling.state import Node

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from squall.scheduling.state import Container, Function, Input

#: Seconds that a deadlock is watched before it is called one: a wait may have a timeout of its own.
PATIENCE = 3.0


class Fleet(NamedTuple):
    """What there is, by id."""

    nodes: Mapping[str, Node]
    functions: Mapping[str, Function]
    containers: Mapping[str, Container]
    inputs: Mapping[str, Input]


class Victim(NamedTuple):
    function: str
    input: str
    reason: str


class Watch:
    """Functions with inputs that others wait for and no container that will take them."""

    def __init__(self, fleet: Fleet) -> None:
        self.starved: set[str] = set()
        self._fleet = fleet
        self._suspects: Collection[str] = ()
        self._looked = 0.0

    def next_look(self) -> float | None:
        return self._looked + PATIENCE if self.starved else None

    def note(self, functions: Iterable[Function], now: float) -> None:
        """These were given what there was to give."""
        if not self.starved:
            self._suspects, self._looked = (), now
        self.starved |= {f.config.id for f in functions if _starves(f)}

    def look(self, waiting: Iterable[str], now: float) -> Victim | None:
        """The input that is to fail, for it can never run: so it was found twice."""
        if not self.starved:
            return None
        functions = self._fleet.functions
        self.starved = {f for f in self.starved & functions.keys() if _starves(functions[f])}
        if not self.starved or now < self._looked + PATIENCE:
            return None
        found = find(self._fleet, self.starved, waiting)
        certain = sorted(found.keys() & set(self._suspects))
        self._suspects, self._looked = found.keys(), now
        if not certain:
            return None
        return Victim(certain[0], functions[certain[0]].queue.deepest(), found[certain[0]])


def _starves(function: Function) -> bool:
    return bool(function.queue.awaited) and not autoscaling.able(function)


def find(fleet: Fleet, starving: Iterable[str], waiting: Iterable[str]) -> dict[str, str]:
    """Functions whose queues can never be served, each with why, in words for its callers.

    The largest set of inputs and functions that is consistent: an input that waits is stuck if all that it
    waits for is, a function if only the end of stuck inputs would give it a container.
    """
    stuck, hopeless = set(waiting), dict.fromkeys(starving, "")
    while fleet.nodes:
        before = len(stuck), len(hopeless)
        reasons = {f: _why(fleet, fleet.functions[f], stuck) for f in hopeless}
        hopeless = {f: reason for f, reason in reasons.items() if reason}
        stuck = {i for i in stuck if _is_stuck(fleet, i, stuck, hopeless)}
        if before == (len(stuck), len(hopeless)):
            return hopeless
    return {}


def _is_stuck(fleet: Fleet, input_id: str, stuck: set[str], hopeless: Mapping[str, str]) -> bool:
    for child_id in fleet.inputs[input_id].awaits or ():
        child = fleet.inputs[child_id]
        queued = child.container is None and child.due is None
        if not (child_id in stuck or (queued and child.function in hopeless)):
            return False
    return True


def _why(fleet: Fleet, function: Function, stuck: set[str]) -> str:
    """Why the function gets no container; empty: it may get one."""
    config = function.config
    for container in function.containers.values():
        if len(container.waiting & stuck) * max(1, config.batch) < config.capacity:
            return ""  # one of its own will have room, or end
    count = len(function.containers)
    if config.max_containers is not None and count >= config.max_containers:
        return (
            f"deadlock: all {count} containers that the function may have (max_containers={count}) wait for "
            "calls that need another one: raise max_containers, or let fewer of its calls wait at once"
        )
    nodes = [_emptied(fleet, node, stuck) for node in fleet.nodes.values()]
    if placement.choose(config.demand, nodes, {}) is not None:
        return ""
    return (
        f"deadlock: a container with {config.demand.memory_mib} MiB is needed by calls that others wait for, "
        "and containers that wait hold all memory (or GPUs): limit the callers by max_containers, "
        "or let them ask for less memory"
    )


def _emptied(fleet: Fleet, node: Node, stuck: set[str]) -> Node:
    """The node when all has ended that can, and all is lent that may be."""
    rest = Node(
        node.id,
        node.cpu_millis,
        node.memory_mib,
        node.gpus,
        node.cpu_millis,
        node.memory_mib,
        dict(node.gpus),
    )
    for container_id in node.containers:
        container = fleet.containers[container_id]
        if container.waiting & stuck:
            rest.take(container)
            rest.free_cpu += container.cpu_millis
    return rest
