"""The nodes: what the scheduler wants of them, their leases, and what their end means."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from squall.scheduling import model as scheduling
from squall.server import outcomes
from squall.server.chunks import allowed, returned
from squall.server.model import Container, NodeResult
from squall.server.names import Refusal, one_line
from squall.server.redaction import Redactor
from squall.store.base import StoreError
from squall.wire import messages
from squall.wire.messages import NodeInput, Notice

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.server.attempts import AttemptLog
    from squall.server.calltable import CallTable
    from squall.server.catalog import Catalog
    from squall.server.clock import Clock, Timer
    from squall.server.dispatch import Dispatcher
    from squall.server.images import Images
    from squall.server.model import App, Function, Input
    from squall.server.node import Node
    from squall.server.secrets import Secrets
    from squall.server.settings import Settings
    from squall.server.tasks import Tasks
    from squall.store.base import Store
    from squall.wire.values import InputItem, Trace

#: Ended containers that are remembered: the last of their output is still to come.
_DEPARTED = 1_000
#: Ids of those of lost nodes: they must not be taken in again.
_DEAD = 10_000
#: Seconds that @exit methods get, with the node's own grace and some for the way.
EXIT_PATIENCE = 40.0
#: Seconds that an acknowledgement of an output waits for inputs to travel with.
_ACKNOWLEDGE_S = 0.02


@dataclass(frozen=True)
class _Departed:
    node: str
    app: App
    redactor: Redactor | None


class Nodes:
    """Nodes that are here and containers that have not exited. `on_container_gone` hears of each end."""

    def __init__(
        self,
        table: CallTable,
        catalog: Catalog,
        images: Images,
        dispatcher: Dispatcher,
        attempts: AttemptLog,
        store: Store,
        tasks: Tasks,
        clock: Clock,
        settings: Settings,
        secrets: Secrets,
    ) -> None:
        self._table = table
        self._catalog = catalog
        self._images = images
        self._dispatcher = dispatcher
        self._attempts = attempts
        self._store = store
        self._tasks = tasks
        self._clock = clock
        self._settings = settings
        self._secrets = secrets
        self.nodes: dict[str, Node] = {}
        self.containers: dict[str, Container] = {}
        self.on_container_gone: Callable[[Container], None] = lambda _container: None
        self._departed: OrderedDict[str, _Departed] = OrderedDict()
        self._dead: OrderedDict[str, None] = OrderedDict()
        self._leaving: dict[App, asyncio.Event] = {}
        self._timer: Timer | None = None
        dispatcher.on(scheduling.StartContainer, self._start)
        dispatcher.on(scheduling.StopContainer, self._stop)
        dispatcher.on(scheduling.AssignInputs, self._assign)
        dispatcher.on(scheduling.RevokeInputs, self._revoke)
        dispatcher.on(scheduling.Waiting, self._waiting)
        dispatcher.on_flush(self.flush)

    # -------------------------------------------------------------------------- what the scheduler decides

    def _start(self, action: scheduling.StartContainer) -> None:
        function, node = self._catalog.functions[action.function], self.nodes[action.node]
        gpus = [kind for kind, count in action.gpus for _ in range(count)]
        container = Container(
            action.container, function, node.id, gpus, self._clock.wall(), self._dispatcher.decided
        )
        self.adopt(node, container)
        if function.spec.secrets:
            self._tasks.spawn(self._start_with_secrets(node, container))
        else:
            node.send(_order(container))

    async def _start_with_secrets(self, node: Node, container: Container) -> None:
        """As they are now. They are in no record: the order is the only thing that has them."""
        function = container.function
        workspace = function.app.record.workspace
        try:
            values = await self._secrets.values(workspace, function.name, function.spec.secrets)
        except (Refusal, StoreError) as error:
            if container.id in self.containers:
                self.failed(container, messages.ContainerState(container.id, "failed", "exit", str(error)))
            return
        container.redactor = Redactor(values.values())
        if container.id in self.containers:
            node.send(replace(_order(container), secrets=values))
            if container.stopping:
                node.send(messages.StopContainer(container.id))

    def failed(self, container: Container, state: messages.ContainerState) -> None:
        """It will never be ready."""
        container.function.start_error = outcomes.start_failed(state)
        retry = state.reason in outcomes.PASSING
        shortage = state.reason in outcomes.SHORTAGES
        self.gone(container)
        self._dispatcher.feed(
            scheduling.ContainerFailed(container.id, one_line(state.message), retry, shortage)
        )

    def stop(self, container: Container) -> None:
        """Its user wants it to end. What it works on comes back, and runs again."""
        container.stopping = True
        node = self.nodes.get(container.node)
        if node is not None:
            node.send(messages.StopContainer(container.id, drain=False))

    def _stop(self, action: scheduling.StopContainer) -> None:
        container = self.containers.get(action.container)
        if container is not None:
            container.stopping = True
        node = self.nodes.get(action.node)
        if node is not None:
            node.send(messages.StopContainer(action.container, action.drain))

    def _assign(self, action: scheduling.AssignInputs) -> None:
        node, container = self.nodes[action.node], self.containers[action.container]
        container.function.waiting = ""
        now = self._clock.now()
        inputs: list[NodeInput] = []
        for input_id, attempt in action.inputs:
            entry = self._table.inputs.get(input_id)
            if entry is None or entry.item is None:
                # A ghost whose client is not back yet with the payload, if it ever is: it cannot be run.
                if entry is not None:
                    entry.attempt, entry.held = attempt, True
                self._dispatcher.feed(
                    scheduling.InputFinished(container.id, input_id, attempt, "cancelled", 0.0)
                )
                continue
            entry.attempt, entry.container = attempt, container.id
            if entry.count > 1 and not (node.chunks and allowed(container.function.spec)):
                self._give_back(node, entry)
                continue
            container.inputs.add(input_id)
            if entry.call.durable:
                self._attempts.add(entry)
            trace = entry.item.trace and self._traced(entry.item.trace, container, now)
            inputs.append(_node_input(entry, entry.item, trace))
        if inputs:
            node.assign(container.id, inputs)

    def _give_back(self, node: Node, chunk: Input) -> None:
        """To somebody who takes single inputs only."""
        key = chunk.id, chunk.attempt
        self._dispatcher.feed(
            scheduling.InputFinished(chunk.container, *key, "ok", 0.0, count=0),
            outcomes={key: NodeResult(node, returned(chunk))},
        )

    def _traced(self, trace: Trace, container: Container, now: float) -> Trace:
        """With the start of the container, if the input waited for it."""
        start = [("scheduler.start", container.decided), ("server.ready", container.ready)]
        waited = trace[-1][1] <= container.decided
        assigned = [("scheduler.assign", self._dispatcher.decided), ("server.assigned", now)]
        return [*trace, *(start if waited else ()), *assigned]

    def began(self, attempts: list[tuple[str, int]]) -> None:
        """User code has begun these."""
        now = self._clock.wall()
        for input_id, attempt in attempts:
            entry = self._table.inputs.get(input_id)
            if entry is not None and entry.attempt == attempt:
                entry.began = now

    def _revoke(self, action: scheduling.RevokeInputs) -> None:
        node = self.nodes.get(action.node)
        if node is not None:
            node.send(messages.Revoke(action.container, list(action.inputs), action.terminate, action.recall))

    def _waiting(self, action: scheduling.Waiting) -> None:
        function = self._catalog.functions.get(action.function)
        if function is None:
            return
        function.waiting = action.reason
        calls = [self._table.calls[call_id] for call_id in function.calls]
        for session in {session for call in calls for session in call.sessions}:
            session.send(Notice(function.app.id, action.reason))

    def ready(self, container: Container) -> None:
        container.state, container.ready = "ready", self._clock.now()
        container.function.start_error = None
        self._dispatcher.feed(scheduling.ContainerReady(container.id))

    def credit(self, entry: Input) -> None:
        """The consumer of a generator that runs is ready for more."""
        container = self.containers.get(entry.container)
        node = self.nodes.get(container.node) if container is not None else None
        if node is not None:
            node.send(messages.NodeCredit(entry.container, entry.id, entry.credit))

    def flush(self) -> None:
        """Acknowledgements wait for company: alone, each costs the server a send and the node a wakeup."""
        waiting = [node for node in self.nodes.values() if node.flush()]
        if waiting and self._timer is None:
            self._timer = self._clock.call_later(_ACKNOWLEDGE_S, self._flush_all)

    def _flush_all(self) -> None:
        self._timer = None
        for node in self.nodes.values():
            node.flush_all()

    # ---------------------------------------------------------------------------------------------- records

    def adopt(self, node: Node, container: Container) -> None:
        self.containers[container.id] = node.containers[container.id] = container
        container.function.containers += 1
        node.workspaces.add(container.function.app.record.workspace)

    def is_dead(self, container_id: str) -> bool:
        """It belonged to a node that was lost: its inputs run elsewhere."""
        return container_id in self._dead

    async def redactor(self, function: Function) -> Redactor | None:
        """For a container that began under an earlier life of the server, by the secrets as they are now."""
        if not function.spec.secrets:
            return None
        workspace = function.app.record.workspace
        try:
            values = await self._secrets.values(workspace, function.name, function.spec.secrets)
        except Refusal:  # deleted meanwhile
            return None
        return Redactor(values.values())

    def redactor_of(self, container_id: str) -> Redactor | None:
        """What takes the secrets out of what this container says, or said until lately."""
        container = self.containers.get(container_id)
        if container is not None:
            return container.redactor
        departed = self._departed.get(container_id)
        return departed.redactor if departed is not None else None

    def app_of(self, node: Node, container_id: str) -> App | None:
        """Whose a container of this node is, or was until lately."""
        container = node.containers.get(container_id)
        if container is not None:
            return container.function.app
        departed = self._departed.get(container_id)
        return departed.app if departed is not None and departed.node == node.id else None

    def gone(self, container: Container, *, lost: bool = False) -> None:
        """A container has ended, or its node was lost."""
        if lost:
            self._dead[container.id] = None
            if len(self._dead) > _DEAD:
                self._dead.popitem(last=False)
        self._departed[container.id] = _Departed(container.node, container.function.app, container.redactor)
        if len(self._departed) > _DEPARTED:
            self._departed.popitem(last=False)
        if self.containers.pop(container.id, None) is not None:
            container.function.containers -= 1
        node = self.nodes.get(container.node)
        if node is not None:
            node.containers.pop(container.id, None)
        for input_id in container.inputs:
            entry = self._table.inputs.get(input_id)
            if entry is not None and entry.container == container.id:
                entry.container = ""
        self.on_container_gone(container)
        leaving = self._leaving.get(container.function.app)
        if leaving is not None and not self._exits(container.function.app):
            leaving.set()

    async def last_words(self, app: App) -> None:
        """Until those of a stopped app's containers have ended that have something to do before."""
        if not self._exits(app):
            return
        leaving = self._leaving.setdefault(app, asyncio.Event())
        timer = self._clock.call_later(EXIT_PATIENCE, leaving.set)
        await leaving.wait()
        timer.cancel()
        self._leaving.pop(app, None)

    def _exits(self, app: App) -> bool:
        functions = (c.function for c in self.containers.values())
        return any(f.app is app and f.spec.class_ is not None and f.spec.class_.exits for f in functions)

    # ----------------------------------------------------------------------------------------------- leases

    async def note(self, node: str) -> None:
        """Before it gets anything to do: a server that comes after us must know whom to wait for.

        Raises Refusal "unavailable".
        """
        try:
            await self._store.add_node(node)
        except StoreError as error:
            raise Refusal("unavailable", str(error)) from None

    def renew(self, node: Node) -> None:
        node.deadline = self._clock.now() + self._settings.lease

    def watch(self, node: Node) -> None:
        """Look again when the lease could have ended."""
        self._clock.call_later(max(0.0, node.deadline - self._clock.now()), lambda: self._look(node))

    def _look(self, node: Node) -> None:
        if self.nodes.get(node.id) is not node:
            return
        over_since = self._clock.now() - node.deadline
        if over_since > self._settings.heartbeat:
            # We are late: this machine slept, or we were stopped. What the node says may wait to be read.
            self.renew(node)
        if self._clock.now() < node.deadline:
            self.watch(node)
        else:
            self._lost(node)

    def _lost(self, node: Node) -> None:
        """Its lease has ended: it kills its containers itself, and nothing that it says counts any more."""
        del self.nodes[node.id]
        for container in list(node.containers.values()):
            self.gone(container, lost=True)
        self._images.node_lost(node)
        if node.connection is not None:
            node.connection.close()
            node.connection = None
        self._dispatcher.feed(scheduling.NodeLost(node.id))
        self._tasks.spawn(self._store.remove_node(node.id))


def _order(container: Container) -> messages.StartContainer:
    function = container.function
    app = function.app
    return messages.StartContainer(
        container.id,
        function.id,
        function.spec,
        app.id,
        app.record.workspace,
        app.record.environment,
        app.uid_base,
        function.recipe,
        function.manifests or {},
        container.gpus,
    )


def _node_input(entry: Input, item: InputItem, trace: Trace | None) -> NodeInput:
    call = entry.call
    return NodeInput(
        entry.id,
        entry.attempt,
        item.payload,
        call.id,
        item.method,
        call.kind == "generator",
        entry.credit,
        call.function.spec.timeout,
        trace,
        # Only who waits on this host can have it so, and nothing durable may depend on memory.
        not call.durable and bool(call.sessions) and all(s.parcels for s in call.sessions),
        item.sizes,
    )
