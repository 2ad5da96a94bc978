"""How many containers a function should have, and how many inputs one container holds at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from squall.scheduling.state import Function

#: Work that may wait inside a container, in seconds: hides a round trip, and is too short to matter when
#: another container idles (DESIGN.md 4).
PREFETCH_SECONDS = 0.005
#: The most inputs that one container holds at a time.
PREFETCH_MAX = 1000
#: Taken for the start of a container until one was seen, in seconds.
START_GUESS = 0.1


def window(function: Function) -> int:
    """Inputs that one container may hold: one, or as many as it finishes in PREFETCH_SECONDS."""
    if function.mean is None:
        return 1
    return max(1, min(PREFETCH_MAX, int(PREFETCH_SECONDS / max(function.mean, 1e-9))))


def desired(function: Function, outstanding: int) -> int:
    """Containers for this many unfinished inputs, within the function's limits.

    One for each input, but none that would be ready only after the others had emptied the queue: with a known
    mean duration d and start time s, n containers empty the queue in outstanding * d / n, so n grows while
    that is longer than s.
    """
    config = function.config
    needed = outstanding
    if function.mean is not None and outstanding:
        start = START_GUESS if function.start is None else function.start
        needed = min(outstanding, max(1, math.ceil(outstanding * function.mean / max(start, 1e-3))))
    if needed:
        needed += config.buffer_containers
    needed = max(needed, config.min_containers)
    if config.max_containers is not None:
        needed = min(needed, config.max_containers)
    return needed


def keep(function: Function) -> int:
    """Containers that idleness does not end."""
    if function.removed:
        return 0
    return function.config.min_containers
