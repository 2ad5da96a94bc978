"""container.*"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server.names import Refusal
from squall.server.requests.registry import handles
from squall.wire.control import ContainerInfo, ContainerList, Empty

if TYPE_CHECKING:
    from squall.server.model import Container
    from squall.server.services import Services
    from squall.server.session import Session
    from squall.wire.control import ContainerRef


@handles("container.list")
async def list_containers(services: Services, session: Session, _body: Empty) -> ContainerList:
    apps = set(services.catalog.visible(session))
    mine = [c for c in services.nodes.containers.values() if c.function.app in apps]
    return ContainerList([_info(c) for c in sorted(mine, key=lambda c: (c.started, c.id))])


@handles("container.stop")
async def stop(services: Services, session: Session, body: ContainerRef) -> Empty:
    container = services.nodes.containers.get(body.container)
    if container is None or container.function.app not in services.catalog.visible(session):
        raise Refusal("not_found", f"no container {body.container[:80]!r} runs: see `squall container list`")
    services.nodes.stop(container)
    return Empty()


def _info(container: Container) -> ContainerInfo:
    return ContainerInfo(
        container.id,
        container.function.app.id,
        container.function.name,
        container.node,
        "stopping" if container.stopping else container.state,
        container.started,
        len(container.inputs),
        container.usage.cpu_seconds,
        container.usage.memory_peak_bytes,
    )
