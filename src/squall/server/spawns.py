"""Spawned calls that come together: one transaction, one decision of the scheduler, one answer.

A lone call by `Calls` costs a read, a write, a task and a decision each; of 64 that an asyncio program spawns
in one turn of its loop, all but the rows is shared here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server import methods
from squall.server.calls import check_inputs, record_of
from squall.server.chunks import arrival
from squall.server.names import Refusal
from squall.store.base import InputRecord, StoreError
from squall.wire import codec
from squall.wire.messages import Accepted, Notice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squall.server.calls import Calls
    from squall.server.calltable import CallTable
    from squall.server.catalog import Catalog
    from squall.server.dispatch import Dispatcher
    from squall.server.model import Call, Function, Input
    from squall.server.recovery import HoldingPen
    from squall.server.session import Session
    from squall.server.settings import Settings
    from squall.server.tasks import Strands
    from squall.store.base import Store
    from squall.wire.messages import Inputs

    #: What was said of a new call, and the call.
    Spawn = tuple[Inputs, Call]


class Spawns:
    """New durable calls of one input each; what is not so simple goes to `Calls`, one by one."""

    def __init__(
        self,
        calls: Calls,
        table: CallTable,
        catalog: Catalog,
        pen: HoldingPen,
        dispatcher: Dispatcher,
        store: Store,
        strands: Strands,
        settings: Settings,
    ) -> None:
        self._calls = calls
        self._table = table
        self._catalog = catalog
        self._pen = pen
        self._dispatcher = dispatcher
        self._store = store
        self._strands = strands
        self._settings = settings

    def take(self, session: Session, messages: Sequence[Inputs]) -> None:
        """Durable inputs of one frame."""
        spawns: list[Spawn] = []
        for message in messages:
            function = self._simple(session, message)
            if function is None:
                self._start(session, spawns)
                spawns = []
                self._calls.inputs(session, message)
            else:
                spawns.append((message, self._calls.open(session, message, function)))
        self._start(session, spawns)

    def _simple(self, session: Session, message: Inputs) -> Function | None:
        """The function, if nothing but the disk is to be asked."""
        plain = message.kind == "unary" and message.last and len(message.items) == 1
        if not plain or message.items[0].payload.blob or message.items[0].trace is not None:
            return None
        if message.call in session.refused or message.call in self._table.calls:
            return None
        if not self._strands.idle(message.call):
            return None
        function = self._catalog.ready(session, message.function)
        if function is None:
            return None
        try:
            check_inputs(message)
            methods.check(function.spec, message)
        except Refusal:  # which `Calls` tells
            return None
        return function

    def _start(self, session: Session, spawns: list[Spawn]) -> None:
        if spawns:
            self._strands.together([call.id for _, call in spawns], self._spawn(session, spawns))

    async def _spawn(self, session: Session, spawns: list[Spawn]) -> None:
        try:
            taken = await self._write(session, spawns)
        except Refusal as refusal:
            for message, _ in spawns:
                self._calls.refuse(session, message, refusal)
            return
        self._begin(session, [spawn for spawn in spawns if spawn[1].id not in taken])
        for message, call in spawns:
            if call.id in taken:  # it was said before, to this server or an earlier one
                call.complete = True
                self._table.close(call)
                await self._calls.take_slowly(session, message)

    async def _write(self, session: Session, spawns: list[Spawn]) -> set[str]:
        limit = self._settings.durable_inputs
        if self._table.durable[session.workspace] + len(spawns) > limit:
            raise Refusal("exhausted", f"{limit} spawned inputs are unfinished: wait for some to end")
        rows = [
            (record_of(call, complete=True), [InputRecord(call.id, item.index, codec.pack(item))])
            for message, call in spawns
            for item in message.items
        ]
        try:
            return await self._store.add_calls(rows)
        except StoreError as error:
            raise Refusal("unavailable", str(error)) from None

    def _begin(self, session: Session, spawns: list[Spawn]) -> None:
        """They are on disk."""
        waited = {call.function: call.function.waiting for _, call in spawns}
        fresh: dict[Function, list[Input]] = {}
        for message, call in spawns:
            (item,) = message.items
            call.seen.add(item.index)
            call.complete = True
            entry = self._table.add(call, item, None)
            if call.cancelled:  # its app was stopped meanwhile
                self._calls.finish_cancelled([entry])
            else:
                fresh.setdefault(call.function, []).append(entry)
        session.send(*(Accepted(call.id, call.seen.low) for _, call in spawns))
        if session.restored and self._pen.open:
            self._pen.hold(entry for entries in fresh.values() for entry in entries)
        elif fresh:
            self._dispatcher.feed(*(arrival(function.id, entries) for function, entries in fresh.items()))
        for function, waiting in waited.items():  # who came later was not told yet
            if waiting and function.waiting == waiting:
                session.send(Notice(function.app.id, waiting))
