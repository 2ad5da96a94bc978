"""Inputs of before the server's restart: held back until the nodes have said what they still run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.scheduling.model import InputsArrived

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squall.server.dispatch import Dispatcher
    from squall.server.model import Input


class HoldingPen:
    """Open from the start until `release`; held inputs are told to the scheduler then, or when a node has them."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._held: dict[str, Input] = {}
        self.open = True

    def hold(self, entries: Iterable[Input]) -> None:
        for entry in entries:
            entry.held = True
            self._held[entry.id] = entry

    def claim(self, input_id: str) -> bool:
        """A node runs it: it is held no more. False if it was not."""
        entry = self._held.pop(input_id, None)
        if entry is None or not entry.held:
            return False
        entry.held = False
        return True

    def release(self) -> None:
        """Dispatch what no node has claimed, in the order of arrival."""
        self.open = False
        held, self._held = self._held, {}
        groups: dict[tuple[str, int], list[str]] = {}
        for entry in held.values():
            if entry.held:
                entry.held = False
                groups.setdefault((entry.call.function.id, entry.attempt), []).append(entry.id)
        self._dispatcher.feed(
            *(InputsArrived(function, tuple(ids), attempt) for (function, attempt), ids in groups.items())
        )
