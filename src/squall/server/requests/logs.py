"""logs.*"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server.names import Refusal
from squall.server.requests.registry import handles
from squall.wire.control import Empty, LogsFetched

if TYPE_CHECKING:
    from squall.server.services import Services
    from squall.server.session import Session
    from squall.wire.control import AppRef, LogsFetch


@handles("logs.follow")
async def follow(services: Services, session: Session, body: AppRef) -> Empty:
    services.logs.follow(session, services.catalog.app(session, body.app))
    return Empty()


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
