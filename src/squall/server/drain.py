"""An end in good order: no new clients, and what is under way comes home first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.server.calltable import CallTable
    from squall.server.clock import Clock
    from squall.server.nodes import Nodes

#: How often it is looked whether all is done (seconds).
_LOOK_S = 0.1


class Drain:
    """Spawned calls that have not begun wait on disk for the next server; those that have are let end."""

    def __init__(self, table: CallTable, nodes: Nodes, clock: Clock) -> None:
        self._table = table
        self._nodes = nodes
        self._clock = clock

    def begin(self, done: Callable[[], None]) -> None:
        """Call `done` when nobody waits for anything that runs."""
        if self._busy():
            self._clock.call_later(_LOOK_S, lambda: self.begin(done))
        else:
            done()

    def _busy(self) -> bool:
        waited_for = any(c.unfinished and c.sessions and not c.durable for c in self._table.calls.values())
        return waited_for or any(container.inputs for container in self._nodes.containers.values())
