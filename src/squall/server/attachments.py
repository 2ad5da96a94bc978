"""Sessions and the calls that they listen to: what a client that comes, or comes back, is owed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from squall.server.awaiting import attached
from squall.server.model import Call
from squall.server.names import Refusal, check_call
from squall.store.base import CallRecord, NotFound
from squall.wire import codec
from squall.wire.batches import outputs_of
from squall.wire.messages import CallFailed, Notice, Yields
from squall.wire.values import OutputItem

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from squall.server.calltable import CallTable
    from squall.server.catalog import Catalog
    from squall.server.dispatch import Dispatcher
    from squall.server.model import Function
    from squall.server.session import Session
    from squall.server.tasks import Strands
    from squall.store.base import Store
    from squall.wire.messages import Attach


#: Stored outputs that are read and sent together.
STEP = 64


class Attachments:
    """Outputs of durable calls come from the store, all others from memory."""

    def __init__(
        self, table: CallTable, catalog: Catalog, dispatcher: Dispatcher, store: Store, strands: Strands
    ) -> None:
        self._table = table
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._store = store
        self._strands = strands

    def known(self, session: Session, call_id: str) -> Call | None:
        call = self._table.calls.get(call_id)
        if call is not None and not reaches(session, call):
            raise Refusal("not_found", f"no call {call_id}")
        return call

    async def revive(self, session: Session, call_id: str) -> Call | None:
        """A durable call that has ended here, or that began under an earlier server."""
        try:
            record = await self._store.call(call_id)
        except NotFound:
            return None
        if (record.workspace, record.environment) != (session.workspace, session.environment):
            raise Refusal("not_found", f"no call {call_id}")
        if record.expired:
            raise expired(call_id)
        function = await self._catalog.load(record.function)
        if function is None:
            raise Refusal("not_found", f"the app of call {call_id} was stopped")
        await self._catalog.prepare(function)
        call = call_of(record, function)
        call.partial = True
        call.total = call.done = (await self._store.call_size(call_id))[1]
        self._table.open(call)
        return call

    async def complete_seen(self, call: Call) -> None:
        """Which inputs were done before."""
        for row in await self._store.call_outputs(call.id):
            call.seen.add(row.index)
        call.partial = False

    def attach(self, session: Session, message: Attach) -> None:
        self._strands.run(message.call, lambda: self._attach(session, message))

    def _attach(self, session: Session, message: Attach) -> Coroutine[Any, Any, None] | None:
        try:
            call = self.known(session, check_call(message.call))
        except Refusal as refusal:
            session.send(CallFailed(message.call, refusal.code, refusal.message))
            return None
        if call is None:
            return self._attach_stored(session, message)
        if self._table.attach(session, call) and call.function.waiting:
            session.send(Notice(call.function.app.id, call.function.waiting))
        if call.durable and call.failed is not None:  # before anybody asked
            session.send(call.failed)
        waits = attached(self._table, session, message)
        if waits:
            self._dispatcher.feed(*waits)
        if call.durable:
            return self._send_stored(session, call.id, message.start, message.end)
        self._resend(session, call, message.start)
        return None

    async def _attach_stored(self, session: Session, message: Attach) -> None:
        try:
            record = await self._store.call(message.call)
        except NotFound:
            record = None
        if record is None or (record.workspace, record.environment) != (
            session.workspace,
            session.environment,
        ):
            text = f"no call {message.call} (results of spawned calls are kept for 7 days, others are not)"
            session.send(CallFailed(message.call, "not_found", text))
            return
        if record.expired:
            refusal = expired(message.call)
            session.send(CallFailed(message.call, refusal.code, refusal.message))
            return
        await self._send_stored(session, message.call, message.start, message.end)

    async def _send_stored(self, session: Session, call_id: str, start: int, end: int | None = None) -> None:
        """In steps: a spawned map may have more results than should be in memory at once."""
        while rows := await self._store.call_outputs(call_id, start, end, STEP):
            session.send(*outputs_of(call_id, [codec.unpack(row.payload, OutputItem) for row in rows]))
            start = rows[-1].index + 1

    def _resend(self, session: Session, call: Call, start: int = 0) -> None:
        """All that a client may not have got: outputs it has not acknowledged, values within the window."""
        if call.failed is not None:
            session.send(call.failed)
            return
        entries = [entry for index, entry in sorted(call.inputs.items()) if index + entry.count > start]
        for entry in entries:
            if entry.yields:
                session.send(Yields(call.id, entry.index, entry.first_yield, entry.yields))
        done = [entry.output for entry in entries if entry.output is not None]
        if done:
            session.send(*outputs_of(call.id, done))

    def resume(self, session: Session) -> None:
        """The session has a new connection."""
        for call in list(session.calls):
            if call.durable and call.kind != "map":
                self._strands.run(call.id, partial(self._send_stored, session, call.id, 0))
            elif not call.durable:
                self._resend(session, call)


def call_of(record: CallRecord, function: Function) -> Call:
    """A durable call as the store has it."""
    return Call(
        record.id,
        function,
        record.workspace,
        record.environment,
        record.kind,
        durable=True,
        parent="",
        created=record.created,
        complete=record.complete,
        cancelled=record.cancelled,
    )


def expired(call_id: str) -> Refusal:
    return Refusal("expired", f"the result of call {call_id} was kept for 7 days and is gone: call it again")


def reaches(session: Session, call: Call) -> bool:
    return (call.workspace, call.environment) == (session.workspace, session.environment)
