"""How many containers a function should have, and how many inputs one container holds at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from squall.scheduling.model import FunctionConfig
    from squall.scheduling.state import Container, Function

#: Work that may wait inside a container, in seconds: hides a round trip, and is too short to matter when
#: another container idles (DESIGN.md 4).
PREFETCH_SECONDS = 0.005
#: The most inputs that wait inside a container.
PREFETCH_MAX = 1000
#: Taken for the start of a container until one was seen, in seconds.
START_GUESS = 0.1


def room(function: Function, container: Container) -> int:
    """How many more inputs the container may get: those that it works on at once, or as many as it finishes
    in PREFETCH_SECONDS. A single-use container gets one in its life. One chunk may wait behind another: there
    are more of them than containers, or the client would not have made them.
    """
    if function.config.single_use:
        return 0 if container.used else 1
    window = capacity = function.config.capacity
    if blocked(function.config, container):
        return 0
    if function.mean is not None and not function.nests:  # nothing shall wait behind one that waits
        ahead = int(capacity * PREFETCH_SECONDS / max(function.mean, 1e-9))
        window = max(capacity, min(PREFETCH_MAX, ahead))
    left = window - container.weight + bool(container.line)
    if left <= 0 and function.queue.head > 1 and len(container.inputs) <= capacity and not function.nests:
        return 1
    return left


def blocked(config: FunctionConfig, container: Container) -> bool:
    """Whether all that it may work at waits for other inputs: it takes nothing in until one of them ends.

    A batch waits as its first input does.
    """
    waiting = len(container.waiting)
    return waiting > 0 and waiting * max(1, config.batch) >= config.capacity


def able(function: Function) -> list[Container]:
    """Containers that run or will run inputs, without those in which all waits."""
    return [c for c in function.live() if not blocked(function.config, c)]


def lends(config: FunctionConfig, container: Container) -> bool:
    """Whether all that runs in it waits for other inputs, so that others may have its CPU meanwhile."""
    running = min(len(container.inputs), config.capacity)
    return bool(container.waiting) and len(container.waiting) * max(1, config.batch) >= running


def desired(function: Function, outstanding: int) -> int:
    """Containers for this many unfinished inputs, within the function's limits.

    One for each `target` inputs, but none that would be ready only after the others had emptied the queue:
    with a known mean duration d and start time s, n containers empty the queue in
    outstanding * d / (n * target), so n grows while that is longer than s. Where containers are for a single
    use, nobody empties the queue for others.
    """
    config = function.config
    needed = math.ceil(outstanding / config.target)
    if function.mean is not None and outstanding and not config.single_use:
        start = START_GUESS if function.start is None else function.start
        work = outstanding * function.mean / config.target
        needed = min(needed, max(1, math.ceil(work / max(start, 1e-3))))
    if needed:
        needed += config.buffer_containers
    needed = max(needed, config.min_containers)
    if config.max_containers is not None:
        needed = min(needed, config.max_containers)
    return needed


def spread(function: Function | None) -> int:
    """How many containers share its inputs; 0 if some of them wait for others, so that none may be bound to
    another one's time.
    """
    return 0 if function is None or function.nests else max(1, len(function.live()))


def keep(function: Function) -> int:
    """Containers that idleness does not end."""
    if function.removed:
        return 0
    return function.config.min_containers
