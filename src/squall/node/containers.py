"""One container from the server's order to its end: image, source, process, runner, last word."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from squall.build.base import BuildError
from squall.node import ends, payloads, specs
from squall.node.conversation import Conversation
from squall.node.door import Door
from squall.node.ends import End
from squall.node.files import Tenant
from squall.node.gpus import NoGpuError
from squall.node.inputs import Inputs
from squall.node.journal import Journal
from squall.node.nested import NestedClients
from squall.node.owner import Owner
from squall.node.transfers import TransferError
from squall.runtime.driver import DriverError, LostError
from squall.runtime.process import ProcessRuntime
from squall.runtime.spec import ExitStatus, Usage
from squall.wire.messages import AnnouncedContainer, ContainerState, RunningInput
from squall.wire.values import ContainerUsage, Payload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence
    from pathlib import Path

    from squall.build.base import BuiltImage
    from squall.node.records import Record
    from squall.node.services import Services
    from squall.runtime.driver import Started
    from squall.runtime.gpus import Gpu
    from squall.runtime.spec import ContainerSpec
    from squall.wire.messages import NodeInput
    from squall.wire.values import Manifest

log = logging.getLogger("squall.node")

#: Why nothing is read from clients inside.
_NO_SERVER = "there is no server"
#: The part of a container's memory limit that results may take which nobody has fetched.
_LENT_PART = 4


class Container(Owner):
    """`run` is its whole life; everything else may be called at any time during it."""

    def __init__(self, services: Services, record: Record) -> None:
        self.id = record.start.container
        self.usage = Usage()
        self._services = services
        self._record = record
        self._start = record.start
        function = self._start.function
        inputs = Inputs(function.capacity, tells=function.batching.max_batch_size > 0)
        limit = self._memory_limit
        self._talk = Conversation(
            services,
            self.id,
            self._start.workspace,
            function.timeout,
            inputs,
            self,
            lendable=sys.maxsize if limit is None else (limit << 20) // _LENT_PART,
        )
        self._nested = NestedClients(self.id, services.link.send)
        if not services.link.ready.is_set():
            self._nested.pause(_NO_SERVER)
        self._door: Door | None = None
        self._process: Started | None = None
        self._order: End | None = None
        self._error = Payload()
        self._returned: list[tuple[str, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self._starting: asyncio.Task[None] | None = None
        self._killed = False
        self._adopted = False

    @property
    def function_id(self) -> str:
        return self._start.function_id

    @property
    def running(self) -> bool:
        """Whether it has a process."""
        return self._process is not None

    def announced(self) -> AnnouncedContainer:
        held = self._talk.inputs
        inputs = [RunningInput(*a.key, started=held.has_begun(a), count=a.count) for a in held.all()]
        inputs += self._services.reports.pending(self.id)
        return AnnouncedContainer(self.id, self.function_id, self._talk.ready, inputs)

    # -- orders

    def assign(self, items: list[NodeInput]) -> None:
        self._talk.assign(items)

    def credit(self, input_id: str, upto: int) -> None:
        self._talk.credit(input_id, upto)

    def revoke(self, keys: list[tuple[str, int]], *, terminate: bool, recall: bool) -> None:
        for input_id, attempt in keys:
            self._talk.revoke((input_id, attempt), recall=recall)
        if terminate:
            self.must_end(ends.TERMINATED)

    def stop(self, *, drain: bool, grace: float) -> None:
        """End at once, or when the running inputs are done, or after `grace` seconds.

        What has @exit methods is interrupted rather than killed.
        """
        if not self._talk.ready or not (drain or self._exits):
            self.must_end(ends.STOPPED)
            return
        self._returned += self._talk.drain()
        if not drain:
            for running in list(self._talk.inputs.begun):
                self._talk.revoke(running.key)
        self._later(grace, ends.STOPPED)

    def abandon(self) -> None:
        """The lease is lost: nobody waits for anything of it."""
        self.must_end(End("lost", "the node lost touch with the server"))

    def nested(self) -> NestedClients:
        return self._nested

    def pause(self, why: str) -> None:
        """The server takes no more for now."""
        self._talk.pause(why)
        self._nested.pause(why)

    def resume(self, why: str) -> None:
        self._talk.resume(why)
        self._nested.resume(why)

    def disconnected(self) -> None:
        """Clients inside open new connections; what they say there waits until the server is back."""
        self._nested.close()
        self._nested.pause(_NO_SERVER)

    def reconnected(self) -> None:
        self._nested.resume(_NO_SERVER)
        self._talk.resend_yields()

    # -- what the runner says (owner.Owner)

    def is_ready(self) -> None:
        self._cancel_timers()
        self._services.reports.state(ContainerState(self.id, "ready"))

    def has_failed(self, message: str, error: Payload) -> None:
        self._error = error
        self.must_end(End("import", message))

    def must_end(self, end: End) -> None:
        if self._order is None:
            self._order = end
        if self._starting is not None:
            self._starting.cancel()
        elif self._process is not None and not self._killed:
            self._killed = True
            self._spawn(self._services.runtime.kill(self.id))

    def is_idle(self) -> None:
        if self._order is None:
            self._order = ends.STOPPED
            self._cancel_timers()
            self._talk.say_stop()
            settings = self._services.settings
            self._later(settings.exit_grace if self._exits else settings.stop_grace, ends.STOPPED)

    # -- its life

    async def run(self) -> None:
        """Start it and see it through to its end. Never raises, except when cancelled."""
        loop = asyncio.get_running_loop()
        self._mark("agent.ordered")
        self._services.reports.state(ContainerState(self.id, "starting"))
        starting = self._starting = loop.create_task(self._launch())
        try:
            await asyncio.wait([starting])
        finally:
            self._starting = None
            if not starting.done():
                starting.cancel()
        end = self._failure_of(starting)
        if end is not None:
            await self._finish(ExitStatus(), end)
        else:
            await self._see_through()

    async def adopt(self, process: Started) -> None:
        """It runs already, since before this agent lived."""
        self._process = process
        self._adopted = True
        self._talk.adopt(self._journal())
        self._door = Door(self._record.sockets, self._talk.attach, self._nested.accept)
        self._watch_output(process)
        self._spawn(self._configure())
        await self._see_through()

    async def _configure(self) -> None:
        """Once more, for a runner that may be at work already. Its sources are there, or it could not be."""
        trees, serialized = await self._materials()
        self._talk.configure(self._config(trees), serialized)

    async def _launch(self) -> None:
        function = self._start.function
        start = self._start
        image = await self._services.images.ensure(
            function.image, start.recipe, Tenant(start.workspace, start.uid_base), start.manifests
        )
        self._mark("agent.image")
        trees, serialized = await self._materials()
        self._mark("agent.sources")
        gpus = self._services.gpus.take(self.id, self._start.gpus)
        self._record.save(image.layers, [gpu.minor for gpu in gpus])
        self._talk.keep(self._journal())
        self._door = Door(self._record.sockets, self._talk.attach, self._nested.accept)
        self._talk.configure(self._config(trees), serialized)
        self._mark("agent.launch")
        self._process = await self._services.runtime.start(self._spec(image, trees, gpus))
        self._talk.stages.driver(self._process.stages)
        self._watch_output(self._process)
        limit = function.startup_timeout or function.timeout
        self._later(limit, ends.too_slow(limit))

    async def _materials(self) -> tuple[dict[str, Path], bytes]:
        """The trees of its sources, and its function if that travels serialized."""
        trees = await self._services.sources.acquire(self._start.workspace, self._manifests())
        payload = payloads.Payloads(self._services.transfers, self._start.workspace, self._services.parcels)
        function = self._start.function.serialized
        return trees, b"" if function is None else await payload.content(function)

    def _failure_of(self, starting: asyncio.Task[None]) -> End | None:
        """Why it could not be started, if it could not."""
        if starting.cancelled():
            return self._order or ends.STOPPED
        error = starting.exception()
        if error is None:
            return None
        if ends.is_full_disk(error):
            return End("disk", "the node's disk is full: free some space there, and what waits goes on")
        if isinstance(error, BuildError):
            return End("image", str(error))
        if isinstance(error, (LostError, NoGpuError)):
            return End("lost", f"the container could not be started: {error}")
        if isinstance(error, (DriverError, TransferError, specs.SpecError, OSError)):
            return End("exit", f"the container could not be started: {error}")
        log.error("starting container %s failed", self.id, exc_info=error)
        return End("killed", "the node failed to start the container: see its log")

    async def _see_through(self) -> None:
        if self._order is not None:  # it came while the process was being made
            self.must_end(self._order)
        status = await self._wait()
        await self._finish(status, ends.described(status, self._order, self._memory_limit))

    async def _wait(self) -> ExitStatus:
        try:
            return await self._services.runtime.wait(self.id)
        except DriverError as error:
            self._order = End("lost", f"the container's driver lost it: {error}")
            return ExitStatus()

    async def _finish(self, status: ExitStatus, end: End) -> None:
        """All that it said, then its last word."""
        # An adopted one may have been told to stop by the agent before us: that is no start that failed, for
        # which what waits for it would fail.
        was_ready = self._talk.ready or (self._adopted and end.reason != "import")
        self._cancel_timers()
        self._talk.take_rest()
        self._services.logs.close(self.id)
        self._returned += self._talk.wind_up(end)
        await self._talk.settle()
        await self._clean_up()
        state = ContainerState(
            self.id,
            "exited" if was_ready else "failed",
            end.reason,
            end.message,
            self._error,
            status.code,
            status.signal,
            self._returned,
            self._usage(status),
        )
        self._services.reports.ended(state, self.function_id)

    async def _clean_up(self) -> None:
        self._talk.close()
        self._nested.close()
        if self._door is not None:
            self._door.close()
        self._services.sources.release(self._start.workspace, self._manifests())
        self._services.gpus.give_back(self.id)
        await asyncio.to_thread(self._record.remove)

    # -- bits

    def _mark(self, stage: str) -> None:
        self._talk.stages.mark(stage, time.monotonic())

    def _journal(self) -> Journal:
        return Journal(self._record.journal, self._talk.inputs.slots)

    def _watch_output(self, process: Started) -> None:
        self._services.logs.open(self.id, self._start.function.name, process.stdout, process.stderr)

    def _manifests(self) -> dict[str, Manifest]:
        names = {m.manifest for m in self._start.function.mounts}
        return {name: self._start.manifests[name] for name in names}

    def _config(self, trees: Mapping[str, Path]) -> dict[str, Any]:
        return specs.config(self._start, None if self._has_mounts else trees)

    def _spec(self, image: BuiltImage, trees: Mapping[str, Path], gpus: Sequence[Gpu]) -> ContainerSpec:
        places = specs.Places(self._record.sockets, self._services.squall, trees)
        if self._has_mounts:
            return specs.isolated(self._start, image, places, gpus)
        visible = gpus if self._services.gpus.present else None
        return specs.unisolated(self._start, image, places, self._record.home, visible)

    @property
    def _has_mounts(self) -> bool:
        return self._services.runtime.name != ProcessRuntime.name

    @property
    def _exits(self) -> bool:
        described = self._start.function.class_
        return described is not None and described.exits

    @property
    def _memory_limit(self) -> int | None:
        return self._start.function.resources.memory_limit_mib

    def _usage(self, status: ExitStatus) -> ContainerUsage:
        final = status.usage if status.usage != Usage() else self.usage
        return ContainerUsage(final.cpu_seconds, final.memory_bytes, final.memory_peak_bytes)

    def _later(self, seconds: float, end: End) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, self.must_end, end))

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _spawn(self, work: Awaitable[None]) -> None:
        async def quietly() -> None:
            with suppress(DriverError):
                await work

        task = asyncio.get_running_loop().create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
