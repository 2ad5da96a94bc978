"""A whole agent on the process driver, with this Python as every image, and a server that a test plays."""

from __future__ import annotations

import asyncio
import pickle
import secrets
import sys
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from squall.build.base import Builder, BuildError, BuiltImage
from squall.node import resources, squallcopy
from squall.node.agent import Agent, Parts
from squall.node.endpoint import Endpoint
from squall.node.gpus import Gpus
from squall.node.settings import Settings
from squall.runtime.double import DoubleRuntime
from squall.runtime.process import ProcessRuntime
from squall.wire import messages as m
from squall.wire.hashing import blob_id, manifest_id
from squall.wire.values import FileEntry, FunctionSpec, Manifest, MountRef, Payload, Recipe
from tests.node.fake_server import FakeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    from squall.runtime.driver import Runtime


class HostBuilder(Builder):
    """Every image is the Python that runs the tests."""

    def __init__(self) -> None:
        self.failure: BuildError | None = None
        #: By base.
        self.pythons: dict[str, str] = {}

    async def ensure(
        self,
        recipe: Recipe,
        manifests: Mapping[str, Manifest],  # noqa: ARG002
        log: Callable[[bytes, int, int], None],
    ) -> BuiltImage:
        log(b"building\n", 1, 1)
        if self.failure is not None:
            raise self.failure
        return BuiltImage("im-1", ("/layers/a",), {}, "/root", self.pythons.get(recipe.base, sys.executable))

    async def images(self) -> list[str]:
        return ["im-1"]


class Node:
    """An agent and its server. Also what a test does with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "node"
        self.server = FakeServer(folder / "server.sock")
        self.builder = HostBuilder()
        self.settings: dict[str, Any] = {"cancel_grace": 1.0, "stop_grace": 2.0}
        self.runtime: Runtime | None = None
        self.waits = True
        self.in_use: list[str] = []
        self.agent: Agent | None = None
        self._numbers = count(1)
        #: The process driver finds a container's processes by its id, all over the host.
        self._token = secrets.token_hex(4)
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.server.start()
        await self.start_agent()
        if self.waits:
            await self.server.expect(m.Announce)

    async def start_agent(self) -> None:
        settings = Settings(self.state, f"unix:{self.server.path}", "no-1", "process", **self.settings)
        self.state.mkdir(exist_ok=True)
        runtime = self.runtime or ProcessRuntime(self.state)
        self.runtime = runtime
        gpus = Gpus([])
        parts = Parts(
            settings=settings,
            endpoint=Endpoint.parse(settings.server),
            runtime=runtime,
            resources=resources.of_this_machine("process", (), gpus),
            gpus=gpus,
            squall=squallcopy.ensure(settings.runtime),
            make_builder=lambda _files: self.builder,
            sweep=self.swept,
            release=runtime.close,
        )
        self.agent = Agent(parts)
        self._running = asyncio.create_task(self.agent.run())

    async def crash(self) -> None:
        """As after kill -9: the agent's descriptors are closed, and nothing else is done."""
        agent = self.agent
        assert agent is not None
        assert self._running is not None
        for container in agent._containers.values():
            container._talk.close()
            if container._door is not None:
                container._door._loop.remove_reader(container._door._socket)
                container._door._socket.close()
            for timer in container._timers:
                timer.cancel()
        agent._logs.stop()
        for task in list(agent._tasks):
            task.cancel()
        await asyncio.gather(*agent._tasks, return_exceptions=True)
        agent._containers.clear()
        agent._parts.__dict__["release"] = DoubleRuntime().close
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def swept(self, _builder: Builder, in_use: list[str]) -> None:
        self.in_use = in_use

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self.server.stop()

    def source(self, **files: str) -> tuple[str, Manifest]:
        """A manifest of these modules, its blobs with the server."""
        entries = []
        for name, code in files.items():
            data = code.encode()
            self.server.blobs[blob_id(data)] = data
            entries.append(FileEntry(f"{name}.py", blob_id(data), len(data)))
        manifest = Manifest(entries)
        return manifest_id(manifest), manifest

    def order(
        self, code: str, qualname: str = "f", base: str = "debian_slim", **function: Any
    ) -> m.StartContainer:
        """To start a container of this function."""
        number = next(self._numbers)
        name, manifest = self.source(work=code)
        spec = FunctionSpec(
            qualname, "work", qualname, "im-1", mounts=[MountRef(name, "/squall/source")], **function
        )
        return m.StartContainer(
            f"ct-{self._token}-{number}",
            "fu-1",
            spec,
            "ap-1",
            "default",
            "main",
            1_000_000,
            Recipe(base),
            {name: manifest},
        )

    async def container(self, code: str, qualname: str = "f", **function: Any) -> str:
        """A container of this function, ready."""
        order = self.order(code, qualname, **function)
        self.server.send(order)
        await self.server.expect(m.ContainerState, container=order.container, state="ready")
        return order.container

    def assign(self, container: str, *args: Any, **more: Any) -> str:
        """Give it one input; its id."""
        return self.assign_payload(container, Payload(pickle.dumps((args, {}))), **more)

    def assign_payload(self, container: str, payload: Payload, **more: Any) -> str:
        input_id = f"fc-{next(self._numbers)}:0"
        self.server.send(m.Assign(container, [m.NodeInput(input_id, 1, payload, input_id[:-2], **more)]))
        return input_id

    async def call(self, container: str, *args: Any) -> Any:
        output = await self.server.output(self.assign(container, *args))
        assert output.output.outcome.status == "ok", output
        return pickle.loads(output.output.outcome.payload.data)

    async def ended(self, container: str) -> m.ContainerState:
        async def either() -> m.ContainerState:
            failed = asyncio.create_task(
                self.server.expect(m.ContainerState, container=container, state="failed")
            )
            exited = asyncio.create_task(
                self.server.expect(m.ContainerState, container=container, state="exited")
            )
            done, pending = await asyncio.wait([failed, exited], return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            return done.pop().result()

        return await either()


class Run(Protocol):
    """Runs a coroutine with a started node; everything has ended when it returns."""

    def __call__(
        self, scenario: Callable[[Node], Coroutine[Any, Any, None]], prepare: Callable[[Node], object] = id
    ) -> None: ...


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_scenario(
        scenario: Callable[[Node], Coroutine[Any, Any, None]], prepare: Callable[[Node], object] = id
    ) -> None:
        async def whole() -> None:
            node = Node(tmp_path)
            prepare(node)
            try:
                await node.start()
                await scenario(node)
            finally:
                await node.stop()

        asyncio.run(whole())

    return run_scenario
