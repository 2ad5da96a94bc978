"""Inputs that wait to begin: single ones begin at once, batches when they are full or have waited. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squall.runner.held import Held

#: Of a method that is not batched.
_SINGLE = (1, 0.0)


class Line:
    """Times are seconds of one clock. `batching`: the most inputs and the longest wait, by method."""

    def __init__(self, batching: Mapping[str, tuple[int, float]]) -> None:
        self._batching = batching
        self._queues: dict[str, deque[tuple[float, Held]]] = {}

    def add(self, held: Held, now: float) -> None:
        self._queues.setdefault(held.method, deque()).append((now, held))

    def remove(self, number: int) -> bool:
        """Take out one that waits; False if it does not."""
        for queue in self._queues.values():
            for entry in queue:
                if entry[1].number == number:
                    queue.remove(entry)
                    return True
        return False

    def take(self, now: float) -> list[Held]:
        """What begins next, all of one method; empty while nothing may begin."""
        ready = [name for name, queue in self._queues.items() if queue and self._due(name) <= now]
        if not ready:
            return []
        name = min(ready, key=lambda n: self._queues[n][0][0])
        queue = self._queues[name]
        return [queue.popleft()[1] for _ in range(min(len(queue), self._limits(name)[0]))]

    def due(self) -> float | None:
        """When something may begin, if nothing arrives; None: nothing waits."""
        return min((self._due(name) for name, queue in self._queues.items() if queue), default=None)

    def _due(self, name: str) -> float:
        size, wait = self._limits(name)
        queue = self._queues[name]
        return queue[0][0] + (0.0 if len(queue) >= size else wait)

    def _limits(self, name: str) -> tuple[int, float]:
        return self._batching.get(name, _SINGLE)
