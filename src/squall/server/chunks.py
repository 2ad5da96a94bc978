"""Chunks: inputs that travel, run and end as one, until some of them must go their own way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.scheduling.model import InputsArrived, InputsCancelled, TakeApart
from squall.server import outcomes
from squall.server.awaiting import awaited
from squall.server.model import Input
from squall.wire import chunks
from squall.wire.values import Outcome, OutputItem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from squall.scheduling import Scheduler
    from squall.server.calltable import CallTable
    from squall.server.dispatch import Dispatcher
    from squall.server.model import Call
    from squall.wire.values import FunctionSpec


def allowed(spec: FunctionSpec) -> bool:
    """Whether a container of this function takes chunks: it works on one input at a time, and tries none
    again.
    """
    shared = spec.capacity > 1 or spec.batching.max_batch_size or spec.single_use
    return not (shared or spec.retries.max_retries or spec.is_generator)


def spread(scheduler: Scheduler, call: Call) -> int:
    """As in messages.Outputs."""
    if call.kind != "map" or call.durable or not allowed(call.function.spec):
        return 0
    return scheduler.spread(call.function.id)


def arrival(
    function: str, entries: Sequence[Input], attempt: int = 0, *, direct: bool = False
) -> InputsArrived:
    """Of inputs and chunks."""
    counts = tuple(e.count for e in entries) if any(e.count > 1 for e in entries) else ()
    return InputsArrived(function, tuple(e.id for e in entries), attempt, direct, counts)


def arrivals(function: str, entries: Iterable[Input], *, direct: bool = False) -> list[InputsArrived]:
    """Of those that may have had attempts."""
    attempts: dict[int, list[Input]] = {}
    for entry in entries:
        attempts.setdefault(entry.attempt, []).append(entry)
    return [arrival(function, group, attempt, direct=direct) for attempt, group in attempts.items()]


def returned(entry: Input) -> OutputItem:
    """Nothing of it is done: all of its inputs come back."""
    return OutputItem(entry.index, Outcome("ok"), entry.attempt, count=0)


def within(entry: Input, output: OutputItem) -> OutputItem:
    """A node's word on an input or chunk, as far as it can be true."""
    if entry.cancelled and output.outcome.status == "cancelled":
        return entry.ends(output.outcome)
    first = output.index if entry.index <= output.index < entry.index + entry.count else entry.index
    count = max(0 if entry.count > 1 else 1, min(output.count, entry.index + entry.count - first))
    sizes, parts = output.sizes, output.parts or []
    packed = sizes is not None or parts or count > 1
    if packed and (sizes is None or len(sizes) != count or any(not 0 <= p.offset < count for p in parts)):
        return entry.ends(outcomes.failed("lost", "its node says of a chunk what cannot be: call it again"))
    return OutputItem(first, output.outcome, output.attempt, output.trace, count, sizes, output.parts)


class Chunks:
    def __init__(self, table: CallTable, dispatcher: Dispatcher) -> None:
        self._table = table
        self._dispatcher = dispatcher
        dispatcher.on(TakeApart, self._take_apart)

    def cut(self, entry: Input, output: OutputItem) -> Input | None:
        """The part of a chunk that has this outcome, if it has any; the rest is for the scheduler again."""
        done = range(output.index, output.index + output.count)
        covered = Input(
            f"{entry.call.id}:{output.index}",
            entry.call,
            output.index,
            None,
            entry.attempt,
            count=output.count,
        )
        covered.container, covered.began = entry.container, entry.began
        self._replace(entry, [covered] if done else [], done, 0)
        return covered if done else None

    def _take_apart(self, action: TakeApart) -> None:
        entry = self._table.inputs.get(action.input)
        if entry is not None and entry.output is None:
            entry.attempt = action.attempt
            self._replace(entry, [], (), action.victim_runs)

    def _replace(self, entry: Input, done: list[Input], without: Iterable[int], victim_runs: int) -> None:
        call = entry.call
        rest = [piece for piece in _pieces(entry) if piece.index not in without]
        self._table.replace(entry, [*done, *rest])
        ids = tuple(piece.id for piece in rest)
        if not ids:
            return
        self._dispatcher.feed(
            InputsArrived(call.function.id, ids, entry.attempt + 1, first=True, victim_runs=victim_runs),
            *awaited(call, rest),
            *([InputsCancelled(ids)] if entry.cancelled else ()),
        )


def _pieces(entry: Input) -> Iterable[Input]:
    """Each with a number of attempts that the chunk never had: what is said of that one is not theirs."""
    call = entry.call
    items = {item.index: item for item in chunks.apart(entry.item)} if entry.item is not None else call.loose
    for index in range(entry.index, entry.index + entry.count):
        piece = Input(f"{call.id}:{index}", call, index, items.get(index), entry.attempt + 1)
        piece.cancelled = entry.cancelled
        yield piece
