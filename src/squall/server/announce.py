"""A node says what it has and runs: adoption after our restart, reconciliation after a broken connection.

The scheduler decides what counts; here it is only told everything in one go, so that nothing that runs is
dispatched a second time in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.scheduling.model import (
    Event,
    InputsArrived,
    KnownContainer,
    NodeJoined,
    RunningAttempt,
)
from squall.server.model import Call, Container, Input
from squall.server.names import Refusal, check_call, check_node
from squall.server.node import Node
from squall.store.base import NotFound, StoreError
from squall.wire.chunks import MAX_COUNT
from squall.wire.messages import Revoke, StopContainer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squall.server.calls import Calls
    from squall.server.calltable import CallTable
    from squall.server.catalog import Catalog
    from squall.server.clock import Clock
    from squall.server.connection import Connection
    from squall.server.dispatch import Dispatcher
    from squall.server.images import Images
    from squall.server.model import Function
    from squall.server.nodes import Nodes
    from squall.server.recovery import HoldingPen
    from squall.server.redaction import Redactor
    from squall.server.settings import Settings
    from squall.store.base import Store
    from squall.wire.messages import Announce, AnnouncedContainer, RunningInput


class Announcements:
    """Ghosts are calls whose inputs run on nodes, and whose clients have not come back (yet)."""

    def __init__(
        self,
        nodes: Nodes,
        table: CallTable,
        calls: Calls,
        catalog: Catalog,
        images: Images,
        pen: HoldingPen,
        dispatcher: Dispatcher,
        store: Store,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._nodes = nodes
        self._table = table
        self._calls = calls
        self._catalog = catalog
        self._images = images
        self._pen = pen
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._settings = settings
        self._ghosts: list[Call] = []

    async def take_in(self, connection: Connection, message: Announce) -> Node:
        """The node, its messages welcome from now on. Raises Refusal."""
        check_node(message.node)
        redactors: dict[str, Redactor | None] = {}
        for announced in message.containers:
            function = await self._catalog.load(announced.function)
            if function is not None:
                await self._catalog.prepare(function)
                redactors[announced.container] = await self._nodes.redactor(function)
        if message.node not in self._nodes.nodes:
            await self._nodes.note(message.node)
        ended = await self._ended(message.containers)
        node = self._node(connection, message)
        known = [c for c in message.containers if self._is_welcome(node, c)]
        self._forget_missing(node, {c.container for c in known})
        arrivals: list[Event] = []
        for announced in known:
            arrivals += self._adopt(node, announced, redactors.get(announced.container), ended)
        resources = node.resources
        joined = NodeJoined(
            node.id,
            resources.cpu_millis,
            resources.memory_mib,
            tuple(sorted(resources.gpus.items())),
            tuple(_known(c) for c in known),
        )
        self._dispatcher.feed(*arrivals, joined)
        self._repeat(node, known)
        self._watch_ghosts()
        self._images.node_joined(node)
        self._pen.announced(node.id)
        return node

    def _node(self, connection: Connection, message: Announce) -> Node:
        """A node that is back within its lease is the same one; its old connection is closed."""
        node = self._nodes.nodes.get(message.node)
        if node is None:
            node = Node(message.node, message.resources, set(), 0.0)
            self._nodes.nodes[node.id] = node
            self._nodes.renew(node)
            self._nodes.watch(node)
        elif node.connection is not None and node.connection is not connection:
            node.connection.close()
        node.connection = connection
        node.resources, node.images = message.resources, set(message.images)
        node.chunks = message.chunks
        self._nodes.renew(node)
        return node

    def _is_welcome(self, node: Node, announced: AnnouncedContainer) -> bool:
        container = self._nodes.containers.get(announced.container)
        if container is not None:
            if container.node == node.id:
                return True
        elif announced.function in self._catalog.functions and not self._nodes.is_dead(announced.container):
            return True
        node.send(StopContainer(announced.container))
        return False

    def _forget_missing(self, node: Node, here: set[str]) -> None:
        """The scheduler hears of their end by the announcement."""
        for container in [c for c in node.containers.values() if c.id not in here]:
            self._nodes.gone(container)

    async def _ended(self, containers: Iterable[AnnouncedContainer]) -> set[str]:
        """Spawned calls among theirs that are over: their inputs have results, and run for nothing."""
        inputs = (running.input for c in containers for running in c.inputs)
        calls = {i.rpartition(":")[0] for i in inputs if i not in self._table.inputs}
        return {call for call in calls - self._table.calls.keys() if await self._is_spawned(call)}

    async def _is_spawned(self, call: str) -> bool:
        try:
            await self._store.call(call)
        except NotFound:
            return False  # a waiting client's
        except StoreError as error:
            raise Refusal("unavailable", str(error)) from None
        return True

    def _adopt(
        self, node: Node, announced: AnnouncedContainer, redactor: Redactor | None, ended: set[str]
    ) -> list[Event]:
        container = self._nodes.containers.get(announced.container)
        if container is None:
            function = self._catalog.functions[announced.function]
            container = Container(announced.container, function, node.id, [], self._clock.wall())
            container.redactor = redactor
            self._nodes.adopt(node, container)
        container.state = "ready" if announced.ready else "starting"
        container.inputs &= {running.input for running in announced.inputs}
        events: list[Event] = []
        for running in announced.inputs:
            call = running.input.rpartition(":")[0]
            if call not in ended and self._is_new(container.function, running):
                events.append(
                    InputsArrived(
                        container.function.id, (running.input,), running.attempt, counts=(running.count,)
                    )
                )
            entry = self._table.inputs.get(running.input)
            if entry is not None and running.attempt >= entry.attempt:
                entry.attempt, entry.container = running.attempt, container.id
                container.inputs.add(entry.id)
        return events

    def _is_new(self, function: Function, running: RunningInput) -> bool:
        """Whether the scheduler does not know the input yet: a held one, or a ghost."""
        if running.input in self._table.inputs:
            return self._pen.claim(running.input)
        call_id, _, index = running.input.rpartition(":")
        try:
            check_call(call_id)
        except Refusal:
            return False
        possible = index.isdecimal() and 1 <= running.count <= MAX_COUNT
        return possible and self._add_ghost(function, call_id, int(index), running.count)

    def _add_ghost(self, function: Function, call_id: str, index: int, count: int) -> bool:
        call = self._table.calls.get(call_id)
        if call is None:
            record = function.app.record
            kind = "generator" if function.spec.is_generator else "map"
            call = Call(
                call_id, function, record.workspace, record.environment, kind, False, "", self._clock.wall()
            )
            call.ghost = True
            self._table.open(call)
            self._ghosts.append(call)
        if call.durable or call.function is not function or not call.seen.add_all(index, count):
            return False
        entry = Input(f"{call_id}:{index}", call, index, None, count=count)
        call.inputs[index] = self._table.inputs[entry.id] = entry
        call.total += count
        call.haunted = call.haunted or count > 1
        return True

    def _watch_ghosts(self) -> None:
        ghosts, self._ghosts = self._ghosts, []
        if ghosts:
            self._clock.call_later(self._settings.grace, lambda: self._drop(ghosts))

    def _drop(self, ghosts: list[Call]) -> None:
        for call in ghosts:
            if call.ghost:
                call.ghost = False
                self._calls.abandon(call)

    def _repeat(self, node: Node, known: Iterable[AnnouncedContainer]) -> None:
        """What was said into a broken connection."""
        for announced in known:
            container = self._nodes.containers[announced.container]
            if container.stopping:
                node.send(StopContainer(container.id, drain=True))
            cancelled = [
                (running.input, running.attempt)
                for running in announced.inputs
                if (entry := self._table.inputs.get(running.input)) is not None and entry.cancelled
            ]
            if cancelled:
                node.send(Revoke(container.id, cancelled))


def _known(announced: AnnouncedContainer) -> KnownContainer:
    inputs = tuple(RunningAttempt(i.input, i.attempt, i.started) for i in announced.inputs)
    return KnownContainer(announced.container, announced.function, announced.ready, inputs)
