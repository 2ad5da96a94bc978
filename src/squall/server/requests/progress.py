"""progress.*"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server.requests.registry import handles
from squall.wire.control import Empty

if TYPE_CHECKING:
    from squall.server.services import Services
    from squall.server.session import Session
    from squall.wire.control import AppRef


@handles("progress.follow")
async def follow(services: Services, session: Session, body: AppRef) -> Empty:
    services.progress.follow(session, services.catalog.app(session, body.app))
    return Empty()
