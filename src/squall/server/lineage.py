"""Which call was made by which input, and how it ended: remembered for a while after it is over."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from squall.server.model import Call, Input

#: Calls that are remembered; the oldest are forgotten first.
MAX_CALLS = 20_000
#: Ended inputs of one call that are remembered.
MAX_INPUTS = 1_000


class End(NamedTuple):
    """How an input ended (a status of Outcome) and in which container."""

    status: str
    container: str


@dataclass(slots=True)
class Kin:
    """A call that an input made, or that can be asked for later."""

    id: str
    workspace: str
    environment: str
    parent: str
    function: str
    module: str
    ends: dict[int, End] = field(default_factory=dict)


class Lineage:
    """Calls that are durable or have a parent: those that a call graph can hold."""

    def __init__(self, limit: int = MAX_CALLS) -> None:
        self._limit = limit
        self._calls: OrderedDict[str, Kin] = OrderedDict()
        self._children: dict[str, list[str]] = {}

    def opened(self, call: Call) -> None:
        if call.id in self._calls or not (call.parent or call.durable):
            return
        function = call.function
        self._calls[call.id] = Kin(
            call.id, call.workspace, call.environment, call.parent, function.name, function.spec.module
        )
        if call.parent:
            self._children.setdefault(call.parent, []).append(call.id)
        if len(self._calls) > self._limit:
            self._forget_oldest()

    def ended(self, entry: Input, status: str) -> None:
        kin = self._calls.get(entry.call.id)
        if kin is not None and len(kin.ends) < MAX_INPUTS:
            kin.ends[entry.index] = End(status, entry.container)

    def call(self, call_id: str) -> Kin | None:
        return self._calls.get(call_id)

    def children(self, input_id: str) -> list[str]:
        """The calls that an input made, oldest first."""
        return list(self._children.get(input_id, ()))

    def _forget_oldest(self) -> None:
        _, kin = self._calls.popitem(last=False)
        siblings = self._children.get(kin.parent, [])
        if kin.id in siblings:
            siblings.remove(kin.id)
        if not siblings:
            self._children.pop(kin.parent, None)
