"""function.* and call.*"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server.attachments import expired
from squall.server.graph import GraphReader
from squall.server.names import Refusal
from squall.server.requests.registry import handles
from squall.server.stats import total
from squall.store.base import NotFound
from squall.wire.control import CallGraph, CallInfo, CallList, CallSummary, FunctionInfo, Stats

#: Calls of one answer.
MAX_CALLS = 1_000

if TYPE_CHECKING:
    from squall.server.model import Call, Function
    from squall.server.services import Services
    from squall.server.session import Session
    from squall.store.base import CallRecord, Store
    from squall.wire.control import (
        CallRef,
        CallsQuery,
        FunctionAutoscaler,
        FunctionGet,
        FunctionLookup,
        FunctionVariant,
        StatsQuery,
    )
    from squall.wire.values import AutoscalerSettings


@handles("function.lookup")
async def lookup(services: Services, session: Session, body: FunctionLookup) -> FunctionInfo:
    app = await services.apps.lookup(session, body.app, create=False)
    if body.version:
        return _info(await services.catalog.pinned(app, body.name, body.version))
    function = app.functions.get(body.name)
    if function is None:
        names = ", ".join(sorted(app.functions)[:20]) or "none"  # a class is one, its methods are not
        raise Refusal("not_found", f"app {body.app} has no function {body.name[:80]!r}; it has: {names}")
    return _info(function)


@handles("function.get")
async def get(services: Services, session: Session, body: FunctionGet) -> FunctionInfo:
    return _info(await services.catalog.find(session, body.id))


@handles("function.stats")
async def function_stats(services: Services, session: Session, body: StatsQuery) -> Stats:
    function = await services.catalog.find(session, body.id)
    others = [v for v in function.app.variants.values() if v.name == function.name and v is not function]
    return _stats(services, [function, *(others if body.all_variants else [])], body)


@handles("app.stats")
async def app_stats(services: Services, session: Session, body: StatsQuery) -> Stats:
    app = services.catalog.app(session, body.id)
    return _stats(services, [f for f in services.catalog.functions.values() if f.app is app], body)


@handles("function.variant")
async def variant(services: Services, session: Session, body: FunctionVariant) -> FunctionInfo:
    parent = await services.catalog.current(session, body.function)
    if parent.request is not None:
        raise Refusal("invalid", f"{parent.name} is a variant already: ask for one of the function itself")
    return _info(await services.catalog.variant(parent, body))


@handles("function.autoscaler")
async def autoscaler(services: Services, session: Session, body: FunctionAutoscaler) -> AutoscalerSettings:
    return await services.catalog.rescale(await services.catalog.current(session, body.function), body)


def _info(function: Function) -> FunctionInfo:
    spec = function.spec
    return FunctionInfo(
        function.id, function.app.id, function.name, spec.is_generator, function.version, spec.class_
    )


def _stats(services: Services, functions: list[Function], query: StatsQuery) -> Stats:
    whole = total(part for f in functions for part in f.tallies.within(query.since, query.until))
    runners = sum(1 for c in services.nodes.containers.values() if c.function in functions)
    backlog = sum(services.scheduler.waiting(f.id) for f in functions if f.registered)
    return Stats(dict(whole.ended), whole.seconds, whole.longest, backlog, runners)


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


@handles("call.list")
async def list_calls(services: Services, session: Session, body: CallsQuery) -> CallList:
    """Those that run now, durable or not, and the durable ones that are remembered."""
    app = services.catalog.deployed(session, body.app) or services.catalog.app(session, body.app)
    limit = max(1, min(body.limit, MAX_CALLS))
    calls = (
        c for c in services.table.calls.values() if c.function.app is app and c.function.name == body.function
    )
    found = {call.id: _live(call) for call in calls}
    for record in await services.store.calls_of(app.id, body.function, limit):
        if record.id not in found:
            found[record.id] = await _summary(services.store, record)
    newest = sorted(found.values(), key=lambda call: (-call.created, call.id))
    return CallList(newest[:limit])


def _live(call: Call) -> CallSummary:
    state = "cancelled" if call.cancelled else "running" if call.unfinished else "done"
    return CallSummary(call.id, call.kind, state, call.created, call.total, call.done, durable=call.durable)


async def _summary(store: Store, record: CallRecord) -> CallSummary:
    inputs, done = await store.call_size(record.id)
    state = "done" if record.complete and done == inputs else "running"
    state = "expired" if record.expired else "cancelled" if record.cancelled else state
    return CallSummary(record.id, record.kind, state, record.created, inputs, done, durable=True)


@handles("call.graph")
async def graph(services: Services, session: Session, body: CallRef) -> CallGraph:
    return CallGraph(await GraphReader(services.store, services.table, session).read(body.call))


def _unknown(call: str) -> Refusal:
    return Refusal("not_found", f"no call {call[:80]} (results of spawned calls are kept for 7 days)")
