"""function.* and call.*"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server.attachments import expired
from squall.server.graph import GraphReader
from squall.server.names import Refusal
from squall.server.requests.registry import handles
from squall.store.base import NotFound
from squall.wire.control import CallGraph, CallInfo, FunctionInfo

if TYPE_CHECKING:
    from squall.server.services import Services
    from squall.server.session import Session
    from squall.wire.control import CallRef, FunctionLookup


@handles("function.lookup")
async def lookup(services: Services, session: Session, body: FunctionLookup) -> FunctionInfo:
    app = await services.apps.lookup(session, body.app, create=False)
    function = app.functions.get(body.name)
    if function is None:
        names = ", ".join(sorted(app.functions)[:20]) or "none"
        raise Refusal("not_found", f"app {body.app} has no function {body.name[:80]!r}; it has: {names}")
    return FunctionInfo(function.id, app.id, function.name, function.spec.is_generator)


@handles("call.get")
async def get_call(services: Services, session: Session, body: CallRef) -> CallInfo:
    call = services.table.calls.get(body.call)
    if call is not None and not call.durable:
        if (call.workspace, call.environment) != (session.workspace, session.environment):
            raise _unknown(body.call)
        entry = call.inputs.get(body.index)
        ready = entry is not None and entry.output is not None
        return CallInfo(call.id, call.function.id, call.kind, call.total, call.done, call.complete, ready)
    try:
        record = await services.store.call(body.call)
    except NotFound:
        raise _unknown(body.call) from None
    if (record.workspace, record.environment) != (session.workspace, session.environment):
        raise _unknown(body.call)
    if record.expired:
        raise expired(body.call)
    inputs, done = await services.store.call_size(body.call)
    ready = body.index >= 0 and bool(await services.store.call_outputs(body.call, body.index, body.index + 1))
    return CallInfo(record.id, record.function, record.kind, inputs, done, record.complete, ready)


@handles("call.graph")
async def graph(services: Services, session: Session, body: CallRef) -> CallGraph:
    return CallGraph(await GraphReader(services.store, services.table, session).read(body.call))


def _unknown(call: str) -> Refusal:
    return Refusal("not_found", f"no call {call[:80]} (results of spawned calls are kept for 7 days)")
