"""status and session.close"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall import __version__
from squall.server.requests.registry import handles
from squall.wire.control import Empty, NodeInfo, Status
from squall.wire.values import PROTOCOL

if TYPE_CHECKING:
    from squall.server.node import Node
    from squall.server.services import Services
    from squall.server.session import Session


@handles("status")
async def status(services: Services, session: Session, _body: Empty) -> Status:
    """For the machine's own users of all workspaces: by it the daemon knows whether it is needed."""
    catalog = services.catalog
    apps = set(catalog.apps.values() if session.admin else catalog.visible(session))
    waiting = sum(
        services.scheduler.waiting(f.id) for f in catalog.functions.values() if f.app in apps and f.registered
    )
    return Status(
        __version__,
        PROTOCOL,
        session.workspace,
        session.environment,
        [_node(node) for node in services.nodes.nodes.values()],
        len(apps),
        sum(1 for c in services.nodes.containers.values() if c.function.app in apps),
        waiting,
        sum(not other.container for other in services.sessions.sessions.values()),
    )


def _node(node: Node) -> NodeInfo:
    has = node.resources
    return NodeInfo(
        node.id,
        "connected" if node.connection is not None else "away",
        has.cpu_millis,
        has.memory_mib,
        has.gpus,
        has.driver,
        has.losses,
        len(node.containers),
    )


@handles("session.close")
async def close_session(services: Services, session: Session, _body: Empty) -> Empty:
    """The polite end: no grace."""
    services.sessions.end(session)
    return Empty()
