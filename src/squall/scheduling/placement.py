"""Where a container goes: which node has room, and whose idle containers make room."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from squall.scheduling.model import Demand
    from squall.scheduling.state import Container, Gpus, Node


#: CPU of containers that only wait for other inputs, by node, in thousandths of a core.
Lent = dict[str, int]


def choose(demand: Demand, nodes: Iterable[Node], lent: Mapping[str, int]) -> tuple[Node, Gpus] | None:
    """The node with the least to spare that has room, and which of the GPU alternatives it gives.

    Alternatives count in the order of preference: a later one is looked at only when no node has the earlier.
    `lent` CPU counts as free.
    """
    candidates = list(nodes)
    for gpus in _alternatives(demand):
        fitting = [node for node in candidates if _fits(node, demand, gpus, lent)]
        if fitting:
            return min(fitting, key=_spare), gpus
    return None


def possible(demand: Demand, nodes: Iterable[Node]) -> bool:
    """Whether any node could hold it when empty."""
    return any(
        demand.cpu_millis <= node.cpu_millis
        and demand.memory_mib <= node.memory_mib
        and all(count <= node.gpus.get(kind, 0) for kind, count in gpus)
        for node in nodes
        for gpus in _alternatives(demand)
    )


def evictions(
    demand: Demand, nodes: Iterable[Node], idle: Iterable[Container], lent: Mapping[str, int]
) -> list[Container]:
    """Idle containers, the longest idle first, whose end makes room on one node; empty when none would do."""
    by_node: dict[str, list[Container]] = {}
    for container in sorted(idle, key=lambda c: (c.since, c.id)):
        by_node.setdefault(container.node, []).append(container)
    for node in nodes:
        for gpus in _alternatives(demand):
            victims = _until_it_fits(node, demand, gpus, by_node.get(node.id, []), lent)
            if victims:
                return victims
    return []


def explain(demand: Demand, nodes: Iterable[Node]) -> str:
    """One line on why a demand can never be met."""
    wants = f"cpu={demand.cpu_millis / 1000:g}, memory={demand.memory_mib} MiB"
    if demand.gpus:
        wants += ", gpu=" + " or ".join(f"{kind}:{count}" for kind, count in demand.gpus)
    has = "; ".join(_describe(node) for node in nodes)
    return f"no node can ever hold a container with {wants} (nodes have {has}): ask for less, or add a node"


def _alternatives(demand: Demand) -> list[Gpus]:
    return [((kind, count),) for kind, count in demand.gpus] or [()]


def _fits(node: Node, demand: Demand, gpus: Gpus, lent: Mapping[str, int]) -> bool:
    return (
        demand.cpu_millis <= node.free_cpu + lent.get(node.id, 0)
        and demand.memory_mib <= node.free_memory
        and all(count <= node.free_gpus.get(kind, 0) for kind, count in gpus)
    )


def _spare(node: Node) -> tuple[float, str]:
    """Free GPUs first (keep whole ones together), then the larger free share of CPU and memory."""
    share = max(node.free_cpu / max(1, node.cpu_millis), node.free_memory / max(1, node.memory_mib))
    return sum(node.free_gpus.values()) + share, node.id


def _until_it_fits(
    node: Node, demand: Demand, gpus: Gpus, idle: list[Container], lent: Mapping[str, int]
) -> list[Container]:
    cpu, memory, have = node.free_cpu + lent.get(node.id, 0), node.free_memory, dict(node.free_gpus)
    victims: list[Container] = []
    for container in idle:
        cpu, memory = cpu + container.cpu_millis, memory + container.memory_mib
        for kind, count in container.gpus:
            have[kind] = have.get(kind, 0) + count
        victims.append(container)
        if (
            demand.cpu_millis <= cpu
            and demand.memory_mib <= memory
            and all(n <= have.get(k, 0) for k, n in gpus)
        ):
            return victims
    return []


def _describe(node: Node) -> str:
    gpus = "".join(f", {count} {kind}" for kind, count in sorted(node.gpus.items()))
    return f"{node.cpu_millis / 1000:g} cores, {node.memory_mib} MiB{gpus or ', no GPU'}"
