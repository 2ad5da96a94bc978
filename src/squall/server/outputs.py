"""Outcomes on their way home: from nodes and scheduler to disk (durable calls) and to sessions."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from squall.scheduling.model import (
    Deliver,
    DropStale,
    FailInput,
    InputsCancelled,
    InputYielded,
    Retrying,
)
from squall.server import outcomes
from squall.server.chunks import Chunks, spread, within
from squall.server.model import YIELD_WINDOW, Acknowledges, NodeResult
from squall.server.sweep import RELEASED
from squall.store.base import OutputRecord, StoreError
from squall.wire import codec, hops
from squall.wire.batches import outputs_of
from squall.wire.chunks import statuses
from squall.wire.messages import CallFailed, Yields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from squall.server.calltable import CallTable
    from squall.server.clock import Clock
    from squall.server.dispatch import Dispatcher
    from squall.server.model import Call, Input
    from squall.server.tasks import Tasks
    from squall.store.base import Store
    from squall.wire.messages import NodeYields
    from squall.wire.values import OutputItem

log = logging.getLogger("squall.server")

#: What is told of a generator whose values are not all here.
_LOST = "values of the generator were lost with the agent that had them: call it again"
_LOST_RESULT = "its result was lost on the way from its node: call it again"
#: Seconds between tries to write outputs while the disk refuses.
STORE_RETRY = 2.0


@dataclass(frozen=True)
class _Final:
    entry: Input
    output: OutputItem
    node: Acknowledges | None


class OutputRouter:
    """`cancel_children` is called with the calls that an ended input had made."""

    def __init__(
        self, table: CallTable, store: Store, dispatcher: Dispatcher, clock: Clock, tasks: Tasks
    ) -> None:
        self._table = table
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._tasks = tasks
        self._chunks = Chunks(table, dispatcher)
        self.cancel_children: Callable[[set[str]], None] = lambda _calls: None
        self._leaving: dict[Call, list[OutputItem]] = {}
        self._to_store: list[_Final] = []
        self._storing = False
        dispatcher.on(Deliver, self._deliver)
        dispatcher.on(Retrying, self._not_final)
        dispatcher.on(DropStale, self._not_final)
        dispatcher.on(FailInput, self._fail)
        dispatcher.on_flush(self.flush)

    def arrived(self, outputs: Iterable[OutputItem]) -> None:
        """From a node. What it says of hops is another machine's word."""
        for output in outputs:
            if output.trace is not None:
                output.trace = [*hops.clean(output.trace, hops.ALL), ("server.output", self._clock.now())]

    # ------------------------------------------------------------------------------- the scheduler's word

    def _deliver(self, action: Deliver) -> None:
        result: NodeResult | None = self._dispatcher.take_outcome(action)
        entry = self._table.inputs.get(action.input)
        if result is None or entry is None:
            self._acknowledge(result, action.input, action.attempt)
            return
        outcome = result.output.outcome
        counted = entry.call.kind != "direct" and outcome.status == "done"
        if counted and outcome.yields != entry.next_yield:
            outcome = outcomes.failed("interrupted", _LOST)
        output = within(entry, replace(result.output, outcome=outcome, attempt=action.attempt))
        if not self._table.parcels.has(entry.call.workspace, output.outcome.payload):
            lost = outcomes.failed("lost", _LOST_RESULT)
            output = replace(output, outcome=lost, sizes=None, parts=None)
        self._table.blobs.keep(entry.call.workspace, output.outcome.payload)
        ended = entry if output.count == entry.count else self._chunks.cut(entry, output)
        if ended is None:
            self._acknowledge(result, action.input, action.attempt)
        else:
            self.finish(ended, output, result.node, result.seconds)

    def _not_final(self, action: Retrying | DropStale) -> None:
        """What counts and is said again may not be on disk yet: the node hears when it is."""
        result = self._dispatcher.take_outcome(action)
        entry = self._table.inputs.get(action.input)
        counts = entry is not None and entry.output is not None and entry.output.attempt == action.attempt
        if entry is None or not counts or not (entry.call.durable or entry.lender):
            self._acknowledge(result, action.input, action.attempt)

    def _acknowledge(self, result: NodeResult | None, input_id: str, attempt: int) -> None:
        if result is not None:
            result.node.acknowledge(input_id, attempt)

    def _fail(self, action: FailInput) -> None:
        entry = self._table.inputs.get(action.input)
        if entry is None or entry.moving:
            return
        call = entry.call
        if action.code == "unplaceable":
            self.refuse(call, "unplaceable", action.message)
        outcome = outcomes.failed(action.code, action.message)
        if action.code == "start_failed" and call.function.start_error is not None:
            outcome = call.function.start_error
        self.finish(entry, entry.ends(outcome))

    # --------------------------------------------------------------------------------------------- outcomes

    def refuse(self, call: Call, code: str, message: str) -> None:
        """The whole call fails; its inputs' own outcomes need not be told after that."""
        if call.failed is None:
            call.failed = CallFailed(call.id, code, message)
            for session in call.sessions:
                session.refuse(call.failed)

    def finish(
        self, entry: Input, output: OutputItem, node: Acknowledges | None = None, seconds: float = 0.0
    ) -> None:
        """The final outcome of an input, which ran so long; the first one counts."""
        if entry.output is not None:
            if node is not None:
                node.acknowledge(entry.id, output.attempt)
            return
        tallies = entry.call.function.tallies
        if entry.call.kind == "direct":
            tallies.line_ended(output.outcome.status, output.outcome.yields, seconds, self._clock.wall())
        else:
            tallies.all_ended(Counter(statuses(output)), seconds, self._clock.wall())
        if output.trace is not None:
            output.trace.append(("server.delivered", self._clock.now()))
        if entry.call.durable:
            entry.output = output
            self._to_store.append(_Final(entry, output, node))
            return
        output.seconds = seconds
        if node is not None and output.outcome.payload.blob:
            entry.lender = node  # until somebody has taken it, should we end before
        elif node is not None:
            node.acknowledge(entry.id, output.attempt)
        self._settle(entry, output)

    def _settle(self, entry: Input, output: OutputItem) -> None:
        call = entry.call
        children = self._table.ended(entry, output)
        if not call.durable:
            if call.failed is None and call.sessions:
                self._leaving.setdefault(call, []).append(output)
            elif not call.ghost:
                self._table.forget(entry)
        self._table.close_if_over(call)
        if children:
            self.cancel_children(children)

    def flush(self) -> None:
        """Send what has gathered; store what must be stored first."""
        if self._leaving:
            leaving, self._leaving = self._leaving, {}
            self._send(leaving)
        if self._to_store and not self._storing:
            self._storing = True
            self._tasks.spawn(self._store_all())

    async def _store_all(self) -> None:
        try:
            while self._to_store:
                finals, self._to_store = self._to_store, []
                await self._store_outputs(finals)
                self._stored(finals)
        finally:
            self._storing = False

    async def _store_outputs(self, finals: list[_Final]) -> None:
        """A full disk is no reason to lose a result: the node keeps it too until it is on ours."""
        now = self._clock.wall()
        rows = [_row(final.entry, final.output, now) for final in finals]
        lazy = not any(final.entry.call.sessions for final in finals)
        while True:
            try:
                await self._store.add_outputs(rows, lazy=lazy)
            except StoreError as error:  # noqa: PERF203 - it is tried again
                log.error("outputs wait for the store: %s", error)  # noqa: TRY400 - one line is all there is
                await asyncio.sleep(STORE_RETRY)
            else:
                return

    def _stored(self, finals: list[_Final]) -> None:
        leaving: dict[Call, list[OutputItem]] = {}
        for final in finals:
            if final.entry.call.failed is None:
                leaving.setdefault(final.entry.call, []).append(final.output)
        self._send(leaving)  # first: a call that is over lets go of its sessions
        for final in finals:
            if final.node is not None:
                final.node.acknowledge(final.entry.id, final.output.attempt)
            self._settle(final.entry, final.output)
        self._dispatcher.flush()

    def _send(self, leaving: dict[Call, list[OutputItem]]) -> None:
        for call, items in leaving.items():
            messages = outputs_of(call.id, items, spread(self._dispatcher.scheduler, call))
            for session in call.sessions:
                session.send(*messages)

    # ------------------------------------------------------------------------------------------ generators

    def yielded(self, message: NodeYields) -> None:
        """Values of the attempt that counts, in order; those that came before are skipped."""
        entry = self._table.inputs.get(message.input)
        if entry is None or entry.output is not None or entry.attempt != message.attempt:
            return
        if entry.container != message.container or entry.call.kind != "generator":
            return
        if message.first > entry.next_yield:
            self._lose(entry)
            return
        if message.first == 0 and message.payloads:
            self._dispatcher.feed(InputYielded(message.container, message.input, message.attempt))
        first = entry.next_yield
        room = max(0, entry.credit - first)
        fresh = message.payloads[first - message.first :][:room]
        if not fresh:
            return
        entry.yields += fresh
        for session in entry.call.sessions:
            session.send(Yields(entry.call.id, entry.index, first, fresh))

    def _lose(self, entry: Input) -> None:
        """An agent that died took values along: the consumer shall not wait for them."""
        entry.cancelled = True
        self.finish(entry, entry.ends(outcomes.failed("interrupted", _LOST)))
        self._dispatcher.feed(InputsCancelled((entry.id,)))

    def credited(self, entry: Input, upto: int) -> bool:
        """The consumer has taken all but the last window's values. False if that was known."""
        if upto <= entry.credit:
            return False
        entry.credit = upto
        taken = min(max(0, upto - YIELD_WINDOW - entry.first_yield), len(entry.yields))
        for payload in entry.yields[:taken]:
            self._table.blobs.keep(entry.call.workspace, payload, RELEASED)
        del entry.yields[:taken]
        entry.first_yield += taken
        return True


def _row(entry: Input, output: OutputItem, now: float) -> OutputRecord:
    return OutputRecord(entry.call.id, entry.index, codec.pack(output), now, output.outcome.payload.blob)
