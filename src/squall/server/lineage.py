"""Which call was made by which input, and how it ended: remembered for a while after it is over."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squall.server.calltable import CallTable
    from squall.server.model import Call, Input
    from squall.server.session import Session
    from squall.wire.values import LogItem

#: Calls and ended inputs that are remembered, all together; the oldest calls are forgotten first, with their
#: inputs. What was spawned is on disk too, but for containers and times.
MAX_REMEMBERED = 4_000
#: Ended inputs of one call that are remembered.
MAX_INPUTS = 1_000
#: What the clocks of a node and of the server may differ by, in seconds, and output be late.
CLOCK_SKEW = 0.25


class End(NamedTuple):
    """How an input ended (a status of Outcome), in which container, and when it ran (wall-clock seconds)."""

    status: str
    container: str
    began: float
    ended: float


class Span(NamedTuple):
    """A container worked at an input from `began` to `ended` (0: it still does), wall-clock seconds."""

    container: str
    began: float
    ended: float

    def covers(self, item: LogItem) -> bool:
        until = self.ended + CLOCK_SKEW if self.ended else math.inf
        return item.container == self.container and self.began - CLOCK_SKEW <= item.time < until


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

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._limit = limit
        self._size = 0
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
        self._grown()

    def ended(self, entry: Input, statuses: Iterable[str], now: float) -> None:
        """An input, or those of a chunk."""
        kin = self._calls.get(entry.call.id)
        if kin is None:
            return
        for index, status in enumerate(statuses, entry.index):
            if len(kin.ends) >= MAX_INPUTS or kin.id not in self._calls:
                return
            kin.ends[index] = End(status, entry.container, entry.began, now)
            self._grown()

    def call(self, call_id: str) -> Kin | None:
        return self._calls.get(call_id)

    def children(self, input_id: str) -> list[str]:
        """The calls that an input made, oldest first."""
        return list(self._children.get(input_id, ()))

    def _grown(self) -> None:
        self._size += 1
        while self._size > self._limit:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, kin = self._calls.popitem(last=False)
        self._size -= 1 + len(kin.ends)
        siblings = self._children.get(kin.parent, [])
        if kin.id in siblings:
            siblings.remove(kin.id)
        if not siblings:
            self._children.pop(kin.parent, None)


def call_spans(table: CallTable, session: Session, call_id: str) -> list[Span]:
    """Where and when the inputs of a call ran, as far as it is remembered."""
    mine = (session.workspace, session.environment)
    spans: list[Span] = []
    kin = table.lineage.call(call_id)
    if kin is not None and (kin.workspace, kin.environment) == mine:
        spans += [Span(end.container, end.began, end.ended) for end in kin.ends.values() if end.container]
    call = table.calls.get(call_id)
    if call is not None and (call.workspace, call.environment) == mine:
        spans += [Span(e.container, e.began, 0.0) for e in call.inputs.values() if e.container and e.began]
    return spans
