"""status and session.close"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall import __version__
from squall.server.requests.registry import handles
from squall.wire.control import Counts, Empty, NodeInfo, Status
from squall.wire.values import PROTOCOL

if TYPE_CHECKING:
    from squall.server.model import App
    from squall.server.node import Node
    from squall.server.services import Services
    from squall.server.session import Session


@handles("status")
async def status(services: Services, session: Session, _body: Empty) -> Status:
    """The machine's own users hear also what else there is; the daemon, whether it is needed."""
    catalog = services.catalog
    here = set(catalog.visible(session))
    own = _counts(services, here)
    others = _counts(services, set(catalog.apps.values()) - here) if session.admin else Counts()
    return Status(
        __version__,
        PROTOCOL,
        session.workspace,
        session.environment,
        [_node(node) for node in services.nodes.nodes.values()],
        own.apps,
        own.containers,
        own.waiting_inputs,
        sum(not other.container for other in services.sessions.sessions.values()),
        others,
    )


def _counts(services: Services, apps: set[App]) -> Counts:
    functions = (f for f in services.catalog.functions.values() if f.app in apps and f.registered)
    return Counts(
        len(apps),
        sum(c.function.app in apps for c in services.nodes.containers.values()),
        sum(services.scheduler.waiting(f.id) for f in functions),
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
