"""Which inputs wait for which: what the scheduler must know so that those who wait hold no CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.scheduling.model import InputsAwaited

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squall.server.calltable import CallTable
    from squall.server.model import Call, Input
    from squall.server.session import Session
    from squall.wire.messages import Attach


def parent_of(table: CallTable, session: Session, said: str) -> str:
    """The input that a client says it speaks for; only a container can, of those that it has. Else empty."""
    return said if waiter_of(table, session, said) else ""


def waiter_of(table: CallTable, session: Session, said: str) -> str:
    """The same as the scheduler knows it: the chunk that it is one of."""
    entry = table.covering(said) if said and session.container else None
    return entry.id if entry is not None and entry.container == session.container else ""


def awaited(call: Call, entries: Iterable[Input]) -> list[InputsAwaited]:
    """An input that calls a function waits for all of the call's inputs, unless it spawned them."""
    if not call.parent or call.durable:
        return []
    return _events(call.waiter or call.parent, entries)


def attached(table: CallTable, session: Session, message: Attach) -> list[InputsAwaited]:
    """An input that asks for the outputs of a call waits for those that it asks for."""
    call, parent = table.calls.get(message.call), waiter_of(table, session, message.parent)
    if call is None or not parent:
        return []
    start, end = message.start, message.end
    if end is not None and end - start < len(call.inputs):
        entries = [call.inputs[index] for index in range(start, end) if index in call.inputs]
    else:
        entries = [e for i, e in call.inputs.items() if i >= start and (end is None or i < end)]
    return _events(parent, entries)


def _events(parent: str, entries: Iterable[Input]) -> list[InputsAwaited]:
    unfinished = tuple(e.id for e in entries if e.output is None and not e.held)
    return [InputsAwaited(parent, unfinished)] if unfinished else []
