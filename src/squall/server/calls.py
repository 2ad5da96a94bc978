"""Calls: their inputs on the way in, cancellation, and what sessions that come and go are owed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from squall.scheduling.model import InputsCancelled
from squall.server import methods, outcomes
from squall.server.attachments import reaches
from squall.server.awaiting import awaited, parent_of, waiter_of
from squall.server.chunks import arrivals
from squall.server.model import Call
from squall.server.names import Refusal, check_blob, check_call
from squall.store.base import CallRecord, InputRecord, StoreError
from squall.wire import chunks, codec, hops
from squall.wire.batches import outputs_of
from squall.wire.messages import Accepted, CallFailed, Notice
from squall.wire.parcels import is_name as is_parcel
from squall.wire.values import INLINE_LIMIT, PAYLOAD_LIMIT

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from squall.scheduling.model import Event
    from squall.server.attachments import Attachments
    from squall.server.calltable import CallTable
    from squall.server.catalog import Catalog
    from squall.server.clock import Clock
    from squall.server.dispatch import Dispatcher
    from squall.server.model import Function, Input
    from squall.server.outputs import OutputRouter
    from squall.server.recovery import HoldingPen
    from squall.server.session import Session
    from squall.server.settings import Settings
    from squall.server.tasks import Strands
    from squall.store.base import Blobs, Store
    from squall.wire.messages import Cancel, Credit, Inputs, Received
    from squall.wire.values import InputItem

KINDS = ("unary", "map", "generator", "direct")
#: Inputs of one call.
MAX_INDEX = 10_000_000


class Calls:
    """What clients say about calls. Everything about one call happens in the order in which it was said."""

    def __init__(
        self,
        table: CallTable,
        attachments: Attachments,
        router: OutputRouter,
        catalog: Catalog,
        pen: HoldingPen,
        dispatcher: Dispatcher,
        store: Store,
        blobs: Blobs,
        strands: Strands,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._table = table
        self._attachments = attachments
        self._router = router
        self._catalog = catalog
        self._pen = pen
        self._dispatcher = dispatcher
        self._store = store
        self._blobs = blobs
        self._strands = strands
        self._clock = clock
        self._settings = settings
        router.cancel_children = self._cancel_children

    # ---------------------------------------------------------------------------------------------- inputs

    def inputs(self, session: Session, message: Inputs) -> None:
        if message.call in session.refused:
            session.send(session.refused[message.call])
            return
        for item in message.items:
            if item.trace is not None:
                said = hops.clean(item.trace, hops.CLIENT)
                item.trace = [*said, ("server.received", self._clock.now())]
        self._strands.run(message.call, lambda: self._inputs(session, message))

    def _inputs(self, session: Session, message: Inputs) -> Coroutine[Any, Any, None] | None:
        try:
            check_inputs(message)
            call = self._attachments.known(session, message.call)
            function = call.function if call else self._catalog.ready(session, message.function)
            if message.durable or function is None or not all(map(self._is_here, message.items)):
                return self.take_slowly(session, message)
            methods.check(function.spec, message)
            self._take(session, message, call or self.open(session, message, function))
        except Refusal as refusal:
            self.refuse(session, message, refusal)
        return None

    def _is_here(self, item: InputItem) -> bool:
        """Whether nothing must be looked up before it is taken in."""
        return not item.payload.blob or is_parcel(item.payload.blob)

    async def take_slowly(self, session: Session, message: Inputs) -> None:
        """What needs the store: functions not used before, durable calls, payloads in blobs."""
        try:
            call = self._attachments.known(session, message.call)
            if call is None and message.durable:
                call = await self._attachments.revive(session, message.call)
            if call is None:
                function = await self._catalog.find(session, message.function)
                methods.check(function.spec, message)
                call = self.open(session, message, function)
            else:
                methods.check(call.function.spec, message)
            await self._check_blobs(session, message)
            if message.durable:
                await self._write(session, message, call)
            self._take(session, message, call)
            if message.durable:
                session.send(Accepted(call.id, call.seen.low))
        except Refusal as refusal:
            self.refuse(session, message, refusal)
        except StoreError as error:
            self.refuse(session, message, Refusal("unavailable", str(error)))

    def open(self, session: Session, message: Inputs, function: Function) -> Call:
        call = Call(
            message.call,
            function,
            session.workspace,
            session.environment,
            message.kind,
            message.durable,
            parent_of(self._table, session, message.parent),
            self._clock.wall(),
            waiter_of(self._table, session, message.parent),
        )
        self._table.open(call)
        return call

    async def _check_blobs(self, session: Session, message: Inputs) -> None:
        for item in message.items:
            blob = item.payload.blob
            if not blob or (is_parcel(blob) and not message.durable):  # `_take` looks at parcels
                continue
            if not await self._blobs.has(session.workspace, check_blob(blob)):
                raise Refusal("not_found", f"the arguments of input {item.index} were not uploaded")

    async def _write(self, session: Session, message: Inputs, call: Call) -> None:
        if call.partial:
            await self._attachments.complete_seen(call)
        fresh = [item for item in message.items if item.index not in call.seen]
        if self._table.durable[session.workspace] + len(fresh) > self._settings.durable_inputs:
            limit = self._settings.durable_inputs
            raise Refusal("exhausted", f"{limit} spawned inputs are unfinished: wait for some to end")
        rows = [InputRecord(call.id, i.index, codec.pack(i), blob=i.payload.blob) for i in fresh]
        await self._store.add_inputs(record_of(call, complete=call.complete or message.last), rows)

    def _take(self, session: Session, message: Inputs, call: Call) -> None:
        self._check_room(session, message, call)
        self._check_parcels(session, message)
        waiting = call.function.waiting
        # Who spawns is not listening: the results would fill its connection. Who asks for them attaches.
        attached = not call.durable and self._table.attach(session, call)
        if attached or call.ghost:
            self._owe(session, call, message.items)
        fresh = self._add(session, call, message.items)
        call.complete = call.complete or message.last or call.cancelled
        self._note_feeder(session, call)
        if call.ghost:  # a node could not tell which kind it is, nor whose
            call.kind, call.ghost = message.kind, False
            parent = parent_of(self._table, session, message.parent)
            self._table.belongs(call, parent, waiter_of(self._table, session, message.parent))
        if call.cancelled or (session.ended and not call.durable):
            self.finish_cancelled(fresh)
        elif session.restored and self._pen.open:
            self._pen.hold(fresh)
        else:
            self._dispatch(call, fresh, message.items)
        if fresh and waiting and call.function.waiting == waiting:  # who came later was not told yet
            session.send(Notice(call.function.app.id, waiting))
        self._table.close_if_over(call)

    def _dispatch(self, call: Call, fresh: list[Input], items: Iterable[InputItem]) -> None:
        events: list[Event] = []
        if fresh:
            events += arrivals(call.function.id, fresh, direct=call.kind == "direct")
        if call.parent:  # it waits for all of them, also for those that are here since before a restart
            entries = (call.inputs.get(item.index) for item in items)
            events += awaited(call, [entry for entry in entries if entry is not None])
        if events:
            self._dispatcher.feed(*events)

    def _note_feeder(self, session: Session, call: Call) -> None:
        if call.complete:
            for feeder in call.feeders:
                feeder.feeding.discard(call)
            call.feeders.clear()
        elif call.durable and not session.ended:
            session.feeding.add(call)
            call.feeders.add(session)

    def _check_room(self, session: Session, message: Inputs, call: Call) -> None:
        if call.durable:
            return
        size = sum(len(item.payload.data) for item in message.items)
        limit = self._settings
        if (
            session.inputs + sum(item.count for item in message.items) > limit.session_inputs
            or session.bytes + size > limit.session_bytes
        ):
            raise Refusal(
                "exhausted",
                f"over {limit.session_inputs} inputs, or {limit.session_bytes >> 20} MiB, of one client are "
                "unfinished: wait for some, or use spawn",
            )

    def _check_parcels(self, session: Session, message: Inputs) -> None:
        for item in message.items:
            if item.payload.blob and is_parcel(item.payload.blob):
                self._table.parcels.get(session.workspace, item.payload.blob)

    def _add(self, session: Session, call: Call, items: Iterable[InputItem]) -> list[Input]:
        fresh: list[Input] = []
        for item in items:
            if call.seen.add_all(item.index, item.count):
                fresh.append(self._table.add(call, item, session))
                continue
            entry = call.inputs.get(item.index)
            if item.count > 1 and (entry is None or entry.count != item.count):  # it has come apart since
                fresh += self._add(session, call, chunks.apart(item))
            elif entry is None or entry.count != item.count:
                self._table.give_piece(call, item)
            elif entry.item is None and entry.output is None:  # a ghost's
                self._table.give(entry, item)
                if entry.held:  # it could have run since
                    entry.held = False
                    fresh.append(entry)
        return fresh

    def _owe(self, session: Session, call: Call, items: Iterable[InputItem]) -> None:
        """Outputs that came before this session was listening."""
        indexes = (index for item in items for index in range(item.index, item.index + item.count))
        entries = (call.inputs.get(index) for index in indexes)
        done = [entry.output for entry in entries if entry is not None and entry.output is not None]
        if done and not call.durable:
            session.send(*outputs_of(call.id, done))

    def refuse(self, session: Session, message: Inputs, refusal: Refusal) -> None:
        """One refused message fails its whole call, that which runs included."""
        for item in message.items:
            self._table.parcels.refuse(session.workspace, item.payload)
        call = self._table.calls.get(message.call)
        if call is None or not reaches(session, call):
            session.refuse(CallFailed(message.call, refusal.code, refusal.message))
            return
        self._table.attach(session, call)
        self._router.refuse(call, refusal.code, refusal.message)
        call.complete = True
        self._cancel_inputs(list(call.inputs.values()))
        self._table.close_if_over(call)

    # ------------------------------------------------------------------------------------- acknowledgement

    def received(self, session: Session, message: Received) -> None:
        call = self._table.calls.get(message.call)
        if call is None or call.durable or not reaches(session, call):
            return
        lent = False
        for index in message.indexes:
            entry = call.inputs.get(index)
            if entry is not None and entry.output is not None:
                lent = lent or entry.lender is not None
                self._table.forget(entry)
        self._table.close_if_over(call)
        if lent:
            self._dispatcher.flush()

    def credit(self, session: Session, message: Credit) -> Input | None:
        """The input whose container must hear of it, if any."""
        call = self._table.calls.get(message.call)
        entry = call.inputs.get(message.index) if call and reaches(session, call) else None
        if entry is None or not self._router.credited(entry, message.upto):
            return None
        return entry if entry.container and entry.output is None else None

    # ---------------------------------------------------------------------------------------------- cancel

    def cancel(self, session: Session, message: Cancel) -> None:
        self._strands.run(message.call, lambda: self._cancel(session, message))

    def _cancel(self, session: Session, message: Cancel) -> Coroutine[Any, Any, None] | None:
        call = self._table.calls.get(message.call)
        if call is None or not reaches(session, call):
            return None
        if message.indexes:
            chosen = [call.inputs[index] for index in message.indexes if index in call.inputs]
            self._cancel_inputs(chosen, terminate=message.terminate)
            return None
        self.cancel_call(call, terminate=message.terminate)
        return self._store.cancel_call(call.id) if call.durable else None

    def cancel_call(self, call: Call, *, terminate: bool = False) -> None:
        """Nothing more of it is run."""
        call.cancelled = call.complete = True
        self._cancel_inputs(list(call.inputs.values()), terminate=terminate)
        self._table.close_if_over(call)

    def _cancel_inputs(self, entries: list[Input], *, terminate: bool = False) -> None:
        live = [entry for entry in entries if entry.output is None]
        for entry in live:
            entry.cancelled = True
        self.finish_cancelled([entry for entry in live if entry.held])
        known = tuple(entry.id for entry in live if entry.output is None)
        if known:
            self._dispatcher.feed(InputsCancelled(known, terminate))

    def finish_cancelled(self, entries: list[Input]) -> None:
        for entry in entries:
            self._router.finish(entry, entry.ends(outcomes.cancelled()))
        self._dispatcher.flush()

    def _cancel_children(self, call_ids: set[str]) -> None:
        for call_id in call_ids:
            call = self._table.calls.get(call_id)
            if call is not None and not call.durable:
                self.cancel_call(call)

    def session_ended(self, session: Session) -> None:
        """Calls that only this client waited for are cancelled, unless durable or of a detached app."""
        for call in session.feeding:
            call.feeders.discard(session)
            if not call.feeders:
                self._complete(call)
        session.feeding.clear()
        for call in list(session.calls):
            call.sessions.discard(session)
            if call.sessions or call.durable:
                continue
            if call.function.app.record.state == "detached":
                self._drop_untaken(call)
            else:
                self.abandon(call)
        session.calls.clear()

    def complete_orphans(self) -> None:
        """Durable calls whose client did not come back after the server's restart to add the rest."""
        for call in list(self._table.calls.values()):
            if call.durable and not call.complete and not call.feeders:
                self._complete(call)

    def _complete(self, call: Call) -> None:
        """No more inputs follow: those that came are what the call is."""
        if not call.complete:
            call.complete = True
            self._strands.run(call.id, lambda: self._store.add_inputs(record_of(call, complete=True), []))
            self._table.close_if_over(call)

    def abandon(self, call: Call) -> None:
        """Nobody waits for it."""
        self.cancel_call(call)
        self._drop_untaken(call)

    def _drop_untaken(self, call: Call) -> None:
        for entry in [entry for entry in call.inputs.values() if entry.output is not None]:
            self._table.forget(entry)
        call.complete = True
        self._table.close_if_over(call)


def record_of(call: Call, *, complete: bool) -> CallRecord:
    return CallRecord(
        call.id,
        call.workspace,
        call.environment,
        call.function.id,
        call.kind,
        call.created,
        call.parent,
        complete,
        call.cancelled,
    )


def check_inputs(message: Inputs) -> None:
    check_call(message.call)
    if message.kind not in KINDS:
        raise Refusal("invalid", f"no kind of call: {message.kind[:40]!r}")
    for item in message.items:
        payload = item.payload
        if not 0 <= item.index <= MAX_INDEX - item.count:
            raise Refusal("invalid", f"input index {item.index}: a call has at most {MAX_INDEX} inputs")
        if len(payload.data) > INLINE_LIMIT or not 0 <= payload.size <= PAYLOAD_LIMIT:
            raise Refusal("invalid", f"the arguments of input {item.index} are over the limit")
        if item.sizes is not None and (message.kind != "map" or message.durable or not chunks.fits(item)):
            raise Refusal("invalid", f"the inputs from {item.index} on are no chunk")
