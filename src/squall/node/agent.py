"""The agent: what the server says goes to containers, images and transfers; what is goes back."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from squall.node import records
from squall.node.containers import Container
from squall.node.files import Sources
from squall.node.guests import Guests
from squall.node.images import Images
from squall.node.link import Link, Owner
from squall.node.logs import Logs
from squall.node.meters import Meters
from squall.node.parcels import Parcels
from squall.node.reports import Reports
from squall.node.services import Services
from squall.node.transfers import Transfers
from squall.wire import guests
from squall.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from pathlib import Path

    from squall.build.base import Builder, Files
    from squall.node.endpoint import Endpoint
    from squall.node.gpus import Gpus
    from squall.node.images import Sweep
    from squall.node.settings import Settings
    from squall.runtime.driver import Runtime
    from squall.wire.values import ContainerUsage

log = logging.getLogger("squall.node")


@dataclass(frozen=True)
class Parts:
    """What the command line decides. `squall` is the folder that containers see at /opt/squall, `release`
    lets go of the driver when the agent ends.
    """

    settings: Settings
    endpoint: Endpoint
    runtime: Runtime
    resources: m.NodeResources
    squall: Path
    gpus: Gpus
    make_builder: Callable[[Files], Builder]
    sweep: Sweep
    release: Callable[[], Awaitable[None]]


class Agent(Owner):
    """Make it inside a running loop; `run` is its life."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._link = Link(parts.endpoint, self, parts.settings.token)
        self._transfers = Transfers(self._link)
        self._parcels = Parcels(parts.endpoint.path)
        self._reports = Reports(
            self._link.send,
            lambda: self._link.heartbeats,
            partial(self._hold, "reports"),
            self._parcels.drop,
        )
        self._logs = Logs(self._link.send, self._link.ready.is_set)
        sources = Sources(parts.settings.sources, self._transfers)
        self._images = Images(parts.make_builder(sources), parts.sweep, self._link)
        self._services = Services(
            settings=parts.settings,
            runtime=parts.runtime,
            link=self._link,
            transfers=self._transfers,
            parcels=self._parcels,
            reports=self._reports,
            logs=self._logs,
            sources=sources,
            images=self._images,
            squall=parts.squall,
            gpus=parts.gpus,
        )
        self._containers: dict[str, Container] = {}
        self._guests = Guests(parts.runtime, self._link.send)
        self._holds: set[str] = set()
        self._present: list[str] = []
        self._meters = Meters(parts.runtime, self._containers.values)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Adopt what runs, then serve until cancelled. Raises link.RefusedError."""
        self._settings.containers.mkdir(parents=True, exist_ok=True)
        await self._services.sources.clear()
        await self._adopt()
        self._present = await self._images.present()
        meters = asyncio.create_task(self._meters.run())
        try:
            await self._link.run()
        finally:
            meters.cancel()
            await self._close()

    async def _adopt(self) -> None:
        """Containers that an earlier life started. Those without a record are nobody's, and end."""
        known = records.load_all(self._settings.containers)
        await self._images.sweep([layer for record in known.values() for layer in record.layers])
        for process in await self._parts.runtime.adopt():
            record = known.get(process.id)
            if record is None:
                self._spawn(self._put_down(process.id, process.stdout, process.stderr))
                continue
            self._services.gpus.adopt(process.id, record.gpus)
            container = self._containers[process.id] = Container(self._services, record)
            self._spawn(self._live(container, container.adopt(process)))
        await asyncio.to_thread(records.clear, self._settings.containers, frozenset(self._containers))

    async def _put_down(self, container: str, *pipes: int) -> None:
        logs = self._logs.open(container, "", *pipes)
        await self._parts.runtime.kill(container)
        await self._parts.runtime.wait(container)
        logs.pull()
        self._logs.close(container)

    async def _live(self, container: Container, life: Coroutine[Any, Any, None]) -> None:
        try:
            await life
        finally:
            self._containers.pop(container.id, None)

    async def _close(self) -> None:
        self._guests.close()
        for container in self._containers.values():
            container.stop(drain=False, grace=0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._settings.stop_grace)
        for task in list(self._tasks):
            task.cancel()
        self._logs.stop()
        self._parcels.close()
        await self._parts.release()

    # -- the link's owner

    def welcomed(self) -> None:
        # An ended container may still be among the living for a moment: its last word counts.
        announced = {c.container: c for c in (x.announced() for x in self._containers.values())}
        announced.update((c.container, c) for c in self._reports.announced())
        self._link.send(
            m.Announce(
                self._settings.node,
                self._parts.resources,
                list(announced.values()),
                self._present,
                chunks=True,
            )
        )
        if self._parcels.lends:
            self._spawn(self._resend())
        else:
            self._reports.resend()
        for container in self._containers.values():
            container.reconnected()
        self._logs.reconnected()

    async def _resend(self) -> None:
        """Outputs whose results the server must have before."""
        await self._parcels.again()
        self._reports.resend()

    def received(self, message: Any) -> None:
        handler = _HANDLERS.get(type(message))
        if handler is None:
            log.warning("the server sent a %s, which means nothing to a node", type(message).__name__)
        else:
            handler(self, message)

    def congested(self, full: bool) -> None:
        self._hold("server", full)

    def confirmed(self, number: int) -> None:
        self._reports.confirmed(number)

    def disconnected(self) -> None:
        self._transfers.broken()
        self._guests.close()
        for container in self._containers.values():
            container.disconnected()

    def lease_lost(self) -> None:
        self._reports.forget()
        for container in self._containers.values():
            container.abandon()

    def usage(self) -> Mapping[str, ContainerUsage]:
        return self._meters.usage()

    # -- messages

    def _start(self, message: m.StartContainer) -> None:
        if message.container in self._containers:
            return
        container = Container(self._services, records.of(self._settings.containers, message))
        self._containers[container.id] = container
        for why in self._holds:
            container.pause(why)
        self._spawn(self._live(container, container.run()))

    def _stop(self, message: m.StopContainer) -> None:
        container = self._containers.get(message.container)
        if container is not None:
            container.stop(drain=message.drain, grace=message.grace)

    def _assign(self, message: m.Assign) -> None:
        container = self._containers.get(message.container)
        if container is not None:  # else it has ended, and the server hears of it
            container.assign(message.inputs)

    def _revoke(self, message: m.Revoke) -> None:
        container = self._containers.get(message.container)
        if container is not None:
            container.revoke(
                [(i, n) for i, n in message.inputs], terminate=message.terminate, recall=message.recall
            )

    def _credit(self, message: m.NodeCredit) -> None:
        container = self._containers.get(message.container)
        if container is not None:
            container.credit(message.input, message.upto)

    def _durable(self, message: m.OutputsDurable) -> None:
        self._reports.durable([(i, n) for i, n in message.inputs])

    def _nested(self, message: m.Nested) -> None:
        container = self._containers.get(message.container)
        if container is not None:
            container.nested().received(message)

    def _guest(self, message: Any) -> None:
        self._guests.received(message)

    def _build(self, message: m.BuildImage) -> None:
        self._spawn(self._build_image(message))

    async def _build_image(self, message: m.BuildImage) -> None:
        await self._images.build(message)
        self._present = await self._images.present()

    def _transfer(self, message: m.BlobChunk | m.Response | m.Failure) -> None:
        self._transfers.received(message)

    def _hold(self, why: str, full: bool) -> None:
        """Read containers no further, or again: the server takes what they say too slowly."""
        if full:
            self._holds.add(why)
        else:
            self._holds.discard(why)
        for container in self._containers.values():
            if full:
                container.pause(why)
            else:
                container.resume(why)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a part of the node failed", exc_info=task.exception())


_HANDLERS: dict[type, Callable[[Agent, Any], None]] = {
    m.StartContainer: Agent._start,
    m.StopContainer: Agent._stop,
    m.Assign: Agent._assign,
    m.Revoke: Agent._revoke,
    m.NodeCredit: Agent._credit,
    m.OutputsDurable: Agent._durable,
    m.Nested: Agent._nested,
    m.BuildImage: Agent._build,
    guests.Join: Agent._guest,
    guests.GuestData: Agent._guest,
    guests.GuestCredit: Agent._guest,
    guests.GuestResize: Agent._guest,
    guests.GuestEnd: Agent._guest,
    m.BlobChunk: Agent._transfer,
    m.Response: Agent._transfer,
    m.Failure: Agent._transfer,
}
