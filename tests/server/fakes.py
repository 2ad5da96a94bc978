"""Doubles around the control plane: a clock turned by hand, connections in memory, a client, a node."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from squall.server import auth
from squall.server.auth import Authenticator
from squall.server.clock import Clock
from squall.server.connection import Connection, Listener, Peer
from squall.server.control import ControlPlane
from squall.server.settings import Settings
from squall.server.vault import Vault
from squall.store.base import Identity
from squall.store.memory import MemoryBlobs, MemoryStore
from squall.wire import codec, control
from squall.wire import messages as m
from squall.wire.control import METHODS
from squall.wire.hashing import recipe_id
from squall.wire.values import (
    PROTOCOL,
    AutoscalerSettings,
    FunctionSpec,
    InputItem,
    Outcome,
    OutputItem,
    Payload,
    Recipe,
    ResourceRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

RECIPE = Recipe("debian_slim", "3.11")
IMAGE = recipe_id(RECIPE)
#: Turns of the event loop in which everything in memory comes to rest.
TURNS = 60


async def settle() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Timer:
    def __init__(self, due: float, action: Callable[[], None]) -> None:
        self.due = due
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock(Clock):
    """Time passes with `advance` only; timers of delay 0 run in the next turn of the loop."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._wall = 1_700_000_000.0
        self._timers: list[Timer] = []

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self._wall + self.time

    def jump(self, seconds: float) -> None:
        """Somebody sets the machine's clock: no time passes."""
        self._wall += seconds

    def call_later(self, delay: float, action: Callable[[], None]) -> Timer:
        timer = Timer(self.time + delay, action)
        if delay == 0:
            asyncio.get_running_loop().call_soon(lambda: None if timer.cancelled else action())
        else:
            self._timers.append(timer)
        return timer

    async def advance(self, seconds: float) -> None:
        end = self.time + seconds
        await settle()
        while True:
            self._timers = [t for t in self._timers if not t.cancelled]
            due = min((t for t in self._timers if t.due <= end), key=lambda t: t.due, default=None)
            if due is None:
                break
            self._timers.remove(due)
            self.time = max(self.time, due.due)
            due.action()
            await settle()
        self.time = end
        await settle()


class FakeConnection(Connection):
    """Messages cross it encoded, as on a wire."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.sent: list[Any] = []
        self.closed = False
        self.paused = 0
        self.unread = 0
        self.listener: Listener | None = None

    def send(self, *messages: object) -> None:
        if not self.closed:
            self.sent += codec.decode(codec.encode(messages))

    def buffered(self) -> int:
        return self.unread

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        self.paused -= 1

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if self.listener is not None:
                self.listener.closed()

    def deliver(self, *messages: object) -> None:
        assert self.listener is not None
        if not self.closed:
            self.listener.received(codec.decode(codec.encode(messages)))


@dataclass
class World:
    """A control plane with doubles around it; `restart` is a new server over the same store."""

    settings: Settings = field(default_factory=Settings)
    store: MemoryStore = field(default_factory=MemoryStore)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    clock: ManualClock = field(default_factory=ManualClock)
    vault: Vault = field(default_factory=Vault.in_memory)
    plane: ControlPlane = field(init=False)
    connections: list[FakeConnection] = field(default_factory=list)

    async def start(self) -> World:
        await self.store.create_workspace("default")
        await self._new_plane()
        return self

    async def restart(self) -> None:
        await self.stop()
        self.clock._timers.clear()
        await self._new_plane()

    async def stop(self) -> None:
        await settle()
        for connection in self.connections:
            connection.close()
        self.connections.clear()
        await self.plane.stop()

    async def _new_plane(self) -> None:
        self.plane = ControlPlane(
            self.store,
            self.blobs,
            Authenticator(self.store, clock=self.clock.now),
            clock=self.clock,
            settings=self.settings,
            vault=self.vault,
        )
        await self.plane.start()

    async def token(self, workspace: str = "default", role: str = "client") -> str:
        await self.store.create_workspace(workspace)
        token = auth.new_token()
        await self.store.add_token(auth.token_hash(token), Identity(workspace, role))
        return token

    def connect(self, peer: Peer | None = None) -> FakeConnection:
        connection = FakeConnection(peer or Peer("unix", uid=0))
        connection.listener = self.plane.accept(connection)
        self.connections.append(connection)
        return connection

    async def client(self, workspace: str = "default", **hello: Any) -> FakeClient:
        client = FakeClient(self)
        if workspace != "default":
            hello["token"] = await self.token(workspace)
        await client.connect(**hello)
        return client

    async def node(self, name: str = "no-1", **resources: Any) -> FakeNode:
        node = FakeNode(self, name, **resources)
        await node.connect()
        return node


class FakeClient:
    def __init__(self, world: World) -> None:
        self.world = world
        self.connection: FakeConnection = FakeConnection(Peer("unix"))
        self.welcome: m.Welcome | None = None
        self._number = 0

    async def connect(self, peer: Peer | None = None, **hello: Any) -> None:
        """Again with the session that it had, unless told otherwise."""
        hello.setdefault("session", self.welcome.session if self.welcome else "")
        self.connection = self.world.connect(peer)
        self.send(m.Hello(**{"protocol": PROTOCOL, "role": "client", "version": "0.0.1", **hello}))
        await settle()
        self.welcome = next(iter(self.of(m.Welcome)), self.welcome)

    def send(self, *messages: object) -> None:
        self.connection.deliver(*messages)

    def of(self, kind: type[T]) -> list[T]:
        return [message for message in self.connection.sent if isinstance(message, kind)]

    def forget(self) -> None:
        self.connection.sent.clear()

    def vanish(self) -> None:
        self.connection.close()

    async def ask(self, method: str, body: object = None) -> Any:
        """The response's body, or the Failure."""
        self._number += 1
        number = self._number
        self.send(m.Request(number, method, codec.pack(body or control.Empty())))
        await settle()
        return self.answer(number, method)

    def answer(self, number: int, method: str) -> Any:
        for message in self.connection.sent:
            if isinstance(message, m.Response) and message.id == number:
                return codec.unpack(message.body, METHODS[method][1])
            if isinstance(message, m.Failure) and message.id == number:
                return message
        return None

    async def app(self, *specs: FunctionSpec, name: str = "demo", **publish: Any) -> control.AppPublished:
        """An app with these functions; deployed with `deploy=True`."""
        target = name
        if not publish.get("deploy"):
            target = (await self.ask("app.create", control.AppCreate(name))).id
        body = control.AppPublish(target, list(specs), {IMAGE: RECIPE}, **publish)
        published = await self.ask("app.publish", body)
        assert isinstance(published, control.AppPublished), published
        return published

    def call(self, function: str, *arguments: bytes, **inputs: Any) -> str:
        """Send inputs with these payloads; the call's id. The result of one that is spawned is asked for."""
        call = inputs.pop("call", "") or f"fc-{secrets.token_hex(16)}"
        start = inputs.pop("start", 0)
        method = inputs.pop("method", "")
        items = [
            InputItem(i, Payload(data, size=len(data)), method) for i, data in enumerate(arguments, start)
        ]
        inputs.setdefault("kind", "map" if len(items) > 1 else "unary")
        self.send(m.Inputs(call, function, items=items, **inputs))
        if inputs.get("durable") and inputs["kind"] == "unary":
            self.send(m.Attach(call))
        return call

    def results(self, call: str) -> dict[int, Outcome]:
        """Outcomes by index, each once."""
        found: dict[int, Outcome] = {}
        for message in self.of(m.Outputs):
            if message.call == call:
                for item in message.items:
                    assert item.index not in found, f"input {item.index} was delivered twice"
                    found[item.index] = item.outcome
        return found


class FakeNode:
    """An agent whose containers become ready at once and answer each input with its payload reversed.

    With `hold`, inputs are only started; with `starts=False`, containers stay in their start. With `trace`,
    it says that of every input's hops.
    """

    def __init__(self, world: World, name: str, **resources: Any) -> None:
        self.world = world
        self.name = name
        self.resources = m.NodeResources(
            **{
                "cpu_millis": 4000,
                "memory_mib": 8192,
                "gpus": {},
                "driver": "double",
                "arch": "x86_64",
                **resources,
            }
        )
        self.connection = FakeConnection(Peer("unix"))
        self.containers: dict[str, m.StartContainer] = {}
        self.inputs: dict[str, tuple[str, m.NodeInput]] = {}
        self.started: list[str] = []
        self.stopped: list[m.StopContainer] = []
        self.images: list[str] = []
        self.hold = False
        self.trace: list[tuple[str, float]] | None = None
        self.starts = True
        self.beating = True
        self._read = 0

    async def connect(self, *, forget: bool = False) -> None:
        if forget:
            self.containers.clear()
            self.inputs.clear()
        self.connection = self.world.connect()
        self._read = 0
        self.connection.deliver(m.Hello(PROTOCOL, "node", "0.0.1"))
        await settle()
        self.connection.deliver(self.announcement())
        await settle()
        self._beat(self.connection)

    def _beat(self, connection: FakeConnection) -> None:
        """Keep the lease, as long as this connection lives."""
        if self.beating and not connection.closed:
            connection.deliver(m.Heartbeat(1))
            self.world.clock.call_later(5.0, lambda: self._beat(connection))

    def announcement(self) -> m.Announce:
        containers = [
            m.AnnouncedContainer(
                container,
                start.function_id,
                self.starts,
                [m.RunningInput(i.input, i.attempt, True) for c, i in self.inputs.values() if c == container],
            )
            for container, start in self.containers.items()
        ]
        return m.Announce(self.name, self.resources, containers, self.images)

    def send(self, *messages: object) -> None:
        self.connection.deliver(*messages)

    def of(self, kind: type[T]) -> list[T]:
        return [message for message in self.connection.sent if isinstance(message, kind)]

    async def work(self) -> None:
        """Do what the server has asked for, until it asks for nothing more."""
        await settle()
        while self._read < len(self.connection.sent):
            message = self.connection.sent[self._read]
            self._read += 1
            handler = getattr(self, f"_{type(message).__name__.lower()}", None)
            if handler is not None:
                handler(message)
            await settle()

    def finish(self, input_id: str, outcome: Outcome | None = None, seconds: float = 0.1) -> None:
        """The runner has answered."""
        container, item = self.inputs.pop(input_id)
        answer = outcome or Outcome("ok", Payload(item.payload.data[::-1], size=len(item.payload.data)))
        index = int(input_id.rpartition(":")[2])
        trace = item.trace and [*item.trace, ("agent.output", item.trace[-1][1])]
        output = OutputItem(index, answer, item.attempt, self.trace or trace)
        self.send(m.NodeOutputs(container, [m.NodeOutput(input_id, item.attempt, output, seconds)]))

    def end(self, container: str, reason: str, message: str = "it ended", state: str = "exited") -> None:
        """The container is gone, its inputs with it."""
        self.containers.pop(container)
        self.inputs = {i: (c, item) for i, (c, item) in self.inputs.items() if c != container}
        self.send(m.ContainerState(container, state, reason, message))

    def acknowledged(self) -> set[tuple[str, int]]:
        return {attempt for message in self.of(m.OutputsDurable) for attempt in message.inputs}

    def _startcontainer(self, message: m.StartContainer) -> None:
        self.containers[message.container] = message
        self.started.append(message.container)
        if self.starts:
            self.send(m.ContainerState(message.container, "ready"))

    def _stopcontainer(self, message: m.StopContainer) -> None:
        self.stopped.append(message)
        if message.container in self.containers:
            self.end(message.container, "stopped")

    def _assign(self, message: m.Assign) -> None:
        for item in message.inputs:
            self.inputs[item.input] = (message.container, item)
        self.send(m.InputsStarted(message.container, [(i.input, i.attempt) for i in message.inputs]))
        if not self.hold:
            for item in message.inputs:
                self.finish(item.input)

    def _revoke(self, message: m.Revoke) -> None:
        for input_id, _ in message.inputs:
            if input_id in self.inputs:
                self.finish(input_id, Outcome("cancelled"))

    def _buildimage(self, message: m.BuildImage) -> None:
        if not self.hold:
            self.send(m.BuildLog(message.image, b"step 1\n", 1, 1), m.ImageDone(message.image))


def spec(name: str = "f", **fields: Any) -> FunctionSpec:
    resources = fields.pop("resources", None) or ResourceRequest(cpu_millis=1000)
    scale = fields.pop("autoscaler", None) or AutoscalerSettings()
    return FunctionSpec(name, "demo", name, IMAGE, resources=resources, autoscaler=scale, **fields)


def payloads(outcomes: dict[int, Outcome]) -> dict[int, bytes]:
    return {index: outcome.payload.data for index, outcome in outcomes.items()}


def logs(container: str, *lines: bytes) -> m.NodeLogs:
    from squall.wire.values import LogItem

    return m.NodeLogs([LogItem(container, "f", 1, line, 1.0) for line in lines])


def indexes(items: Sequence[OutputItem]) -> list[int]:
    return [item.index for item in items]
