"""A node's connection: what it says, checked against what it runs, on its way to the scheduler and home."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from squall.scheduling.model import ContainerExited, Event, InputFinished, InputStarted
from squall.server import outcomes
from squall.server.blobs import Transfers
from squall.server.connection import Connection, Listener
from squall.server.model import NodeResult
from squall.server.names import Refusal, one_line
from squall.server.nested import NestedConnections
from squall.wire import guests
from squall.wire import messages as m
from squall.wire.values import LogItem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from squall.server.announce import Announcements
    from squall.server.connection import Acceptor
    from squall.server.dispatch import Dispatcher
    from squall.server.guests import Guests
    from squall.server.images import Images
    from squall.server.logs import AppLogs
    from squall.server.model import App, Container
    from squall.server.node import Node
    from squall.server.nodes import Nodes
    from squall.server.outputs import OutputRouter
    from squall.server.parcels import Content
    from squall.server.tasks import Strands, Tasks

log = logging.getLogger("squall.server")


class NodeServices:
    """What every node's connection needs of the control plane."""

    def __init__(
        self,
        acceptor: Acceptor,
        nodes: Nodes,
        announcements: Announcements,
        router: OutputRouter,
        images: Images,
        logs: AppLogs,
        dispatcher: Dispatcher,
        content: Content,
        tasks: Tasks,
        strands: Strands,
        guests: Guests,
    ) -> None:
        self.acceptor = acceptor
        self.nodes = nodes
        self.announcements = announcements
        self.router = router
        self.images = images
        self.logs = logs
        self.dispatcher = dispatcher
        self.content = content
        self.tasks = tasks
        self.strands = strands
        self.guests = guests
        self.links: dict[str, NodeLink] = {}


class NodeLink(Listener):
    """One connection of one node; the first message must be Announce."""

    def __init__(self, connection: Connection, services: NodeServices) -> None:
        self._connection = connection
        self._services = services
        self._node: Node | None = None
        self._nested: NestedConnections | None = None
        self._open = True
        self._transfers = Transfers(connection, services.content, services.tasks, self._workspace)
        self._key = f"node-link-{id(self)}"

    def received(self, messages: Sequence[Any]) -> None:
        for message in messages:
            self._services.strands.run(self._key, lambda message=message: self._one(message))  # type: ignore[misc]

    def closed(self) -> None:
        """Its lease goes on; nobody is told before it ends."""
        self._open = False
        self._transfers.close()
        if self._nested is not None:
            self._nested.close()
        node = self._node
        if node is not None and node.connection is self._connection:
            node.connection = None
            self._services.guests.node_gone(node)
            self._services.links.pop(node.id, None)
            log.warning("node %s is away; its lease goes on", node.id)

    def container_gone(self, container: str) -> None:
        if self._nested is not None:
            self._nested.container_gone(container)

    def _one(self, message: Any) -> Coroutine[Any, Any, None] | None:
        if not self._open:
            return None
        if self._node is None:
            if isinstance(message, m.Announce):
                return self._announce(message)
            self._refuse("invalid", "a node's first message is Announce")
            return None
        if self._node.connection is not self._connection:
            return None  # replaced by a newer connection of the same node
        handler = _HANDLERS.get(type(message))
        if handler is None:
            self._refuse("invalid", f"a node does not send {type(message).__name__}")
        else:
            handler(self, message)
        return None

    def _refuse(self, code: str, text: str) -> None:
        self._connection.send(m.Failure(0, code, text))
        self._connection.close()

    async def _announce(self, message: m.Announce) -> None:
        services = self._services
        try:
            node = await services.announcements.take_in(self._connection, message)
        except Refusal as refusal:
            self._refuse(refusal.code, refusal.message)
            return
        self._node = node
        self._nested = NestedConnections(services.acceptor, node)
        services.links[node.id] = self
        if not self._open:
            self.closed()
            return
        log.info("node %s is here: %s", node.id, node.resources)

    @property
    def node(self) -> Node:
        assert self._node is not None
        return self._node

    def _workspace(self, workspace: str) -> str:
        """A node moves blobs only of workspaces that it works for."""
        served = self._services.images.workspaces(self.node) | self.node.workspaces
        if workspace not in served:
            raise Refusal("not_found", f"this node does no work for a workspace {workspace[:80]!r}")
        return workspace

    # -------------------------------------------------------------------------------------- what nodes say

    def _heartbeat(self, message: m.Heartbeat) -> None:
        self._services.nodes.renew(self.node)
        for container_id, usage in message.usage.items():
            container = self.node.containers.get(container_id)
            if container is not None:
                container.usage = usage
        self.node.send(m.Heartbeat(message.number))

    def _image_done(self, message: m.ImageDone) -> None:
        self._services.images.done(self.node, message)

    def _build_log(self, message: m.BuildLog) -> None:
        self._services.images.log(self.node, message)

    def _container_state(self, message: m.ContainerState) -> None:
        container = self.node.containers.get(message.container)
        if container is None:
            return
        dispatcher, nodes = self._services.dispatcher, self._services.nodes
        container.usage = message.usage
        if message.state == "starting":
            container.state = "starting"
        elif message.state == "ready":
            nodes.ready(container)
        elif message.state in ("failed", "exited"):
            self._last_words(container)
            if container.redactor is not None:
                message.message = container.redactor.text(message.message)
            if message.state == "failed":
                nodes.failed(container, message)
            else:
                nodes.gone(container)
                dispatcher.feed(_exited(message))

    def _last_words(self, container: Container) -> None:
        """What was held back because a secret might have followed."""
        held = container.redactor.rest() if container.redactor is not None else {}
        now = time.time()
        items = [LogItem(container.id, container.function.name, fd, data, now) for fd, data in held.items()]
        if items:
            self._services.logs.add(container.function.app, items)

    def _inputs_started(self, message: m.InputsStarted) -> None:
        if message.container in self.node.containers:
            self._services.nodes.began(message.inputs)
            self._services.dispatcher.feed(
                *(InputStarted(message.container, i, n) for i, n in message.inputs)
            )

    def _outputs(self, message: m.NodeOutputs) -> None:
        """Also of containers that are no more: the scheduler knows what counts, the node wants to forget."""
        container = self._services.nodes.containers.get(message.container)
        if container is not None and container.node != self.node.id:
            return
        events = [
            InputFinished(
                message.container, i.input, i.attempt, i.output.outcome.status, i.seconds, i.output.count
            )
            for i in message.items
        ]
        if container is not None:
            container.inputs.difference_update(i.input for i in message.items)
        redactor = self._services.nodes.redactor_of(message.container)
        if redactor is not None:
            for item in message.items:
                item.output.outcome = redactor.outcome(item.output.outcome)
                for part in item.output.parts or ():
                    part.outcome = redactor.outcome(part.outcome)
        self._services.router.arrived(i.output for i in message.items)
        results = {(i.input, i.attempt): NodeResult(self.node, i.output, i.seconds) for i in message.items}
        self._services.dispatcher.feed(*events, outcomes=results)

    def _yields(self, message: m.NodeYields) -> None:
        if message.container in self.node.containers:
            self._services.router.yielded(message)

    def _logs(self, message: m.NodeLogs) -> None:
        by_app: dict[App, list[LogItem]] = {}
        for item in message.items:
            app = self._services.nodes.app_of(self.node, item.container)
            if app is not None:
                redactor = self._services.nodes.redactor_of(item.container)
                by_app.setdefault(app, []).append(item if redactor is None else redactor.item(item))
        for app, items in by_app.items():
            self._services.logs.add(app, items)

    def _relayed(self, message: m.Nested) -> None:
        assert self._nested is not None
        self._nested.received(message)

    def _guest(self, message: Any) -> None:
        self._services.guests.from_node(self.node, message)

    def _chunk(self, message: m.BlobChunk) -> None:
        self._transfers.chunk(message)

    def _fetch(self, message: m.BlobFetch) -> None:
        self._transfers.fetch(message)


def _exited(message: m.ContainerState) -> Event:
    return ContainerExited(
        message.container,
        message.reason in outcomes.FAULTS,
        message.reason,
        one_line(message.message),
        tuple((i, n) for i, n in message.returned),
    )


_HANDLERS: dict[type, Callable[[NodeLink, Any], None]] = {
    m.Heartbeat: NodeLink._heartbeat,
    m.ImageDone: NodeLink._image_done,
    m.BuildLog: NodeLink._build_log,
    m.ContainerState: NodeLink._container_state,
    m.InputsStarted: NodeLink._inputs_started,
    m.NodeOutputs: NodeLink._outputs,
    m.NodeYields: NodeLink._yields,
    m.NodeLogs: NodeLink._logs,
    m.Nested: NodeLink._relayed,
    m.BlobChunk: NodeLink._chunk,
    m.BlobFetch: NodeLink._fetch,
    guests.GuestData: NodeLink._guest,
    guests.GuestCredit: NodeLink._guest,
    guests.GuestEnd: NodeLink._guest,
}
