"""logs.*"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server.lineage import call_spans
from squall.server.names import Refusal
from squall.server.requests.registry import handles
from squall.wire.control import Empty, LogsFetched, LogsPage

if TYPE_CHECKING:
    from squall.server.lineage import Span
    from squall.server.services import Services
    from squall.server.session import Session
    from squall.wire.control import AppRef, LogsFetch, LogsRead
    from squall.wire.values import LogItem

#: Seconds that a reader may wait for more.
MAX_WAIT = 30.0


@handles("logs.follow")
async def follow(services: Services, session: Session, body: AppRef) -> Empty:
    services.logs.follow(session, services.catalog.app(session, body.app))
    return Empty()


@handles("logs.read")
async def read(services: Services, session: Session, body: LogsRead) -> LogsPage:
    app = services.catalog.apps.get(body.app) or services.catalog.deployed(session, body.app)
    app_id = app.id if app else body.app
    if app is not None:
        services.catalog.app(session, app_id)  # of another workspace: not found
        await services.logs.wait(session, app_id, body.after, max(0.0, min(body.wait, MAX_WAIT)))
    found = services.logs.read(session, app_id, body.after)
    if found is None and app is None:
        raise Refusal("not_found", f"no logs of an app {body.app[:80]!r} are kept")
    items, upto = found or ([], body.after)
    spans = call_spans(services.table, session, body.call) if body.call else None
    return LogsPage([i for i in items if _wanted(i, body, spans)], upto, app is not None and not app.stopped)


def _wanted(item: LogItem, body: LogsRead, spans: list[Span] | None) -> bool:
    return (
        (not body.function or item.function == body.function)
        and (not body.container or item.container == body.container)
        and body.fd in (-1, item.fd)
        and item.time >= body.since
        and (not body.until or item.time < body.until)
        and (spans is None or any(span.covers(item) for span in spans))
    )


@handles("logs.fetch")
async def fetch(services: Services, session: Session, body: LogsFetch) -> LogsFetched:
    app = services.catalog.apps.get(body.app) or services.catalog.deployed(session, body.app)
    items = services.logs.fetch(session, app.id if app else body.app, body.tail)
    if items is None:
        if app is not None:
            services.catalog.app(session, body.app)  # of another workspace: not found
            return LogsFetched()
        raise Refusal("not_found", f"no logs of an app or container {body.app[:80]!r} are kept")
    return LogsFetched([(i.container, i.function, i.fd, i.data, i.time) for i in items])
