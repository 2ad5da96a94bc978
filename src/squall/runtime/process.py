"""The driver for hosts that isolate nothing: a container is a process of the agent's own user.

The image is a virtual environment: the agent passes paths of the host in `argv`, `env` and `cwd`; `layers`
and `mounts` are not looked at. What that loses is in `losses`, for the user to read.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal as signals
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from squall.runtime import members
from squall.runtime.driver import DriverError, Runtime, Started
from squall.runtime.process_guest import ProcessGuest
from squall.runtime.spec import ExitStatus, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from squall.runtime.driver import Guest
    from squall.runtime.spec import Command, ContainerSpec

#: In the environment of all processes of a container: how they are found again.
MARK = "SQUALL_CONTAINER"

#: A container's id is the name of its record.
ID = re.compile(r"[A-Za-z0-9_-]{1,200}")

MIB = 1 << 20

LOSSES = (
    "No isolation: functions can read and change whatever this user can.",
    "CPU and the number of processes are not limited; a memory limit holds for each process by itself.",
    "The network is not filtered, and block_network is refused.",
    "An image is a virtual environment: apt_install and copied files are refused.",
    "run_commands of an image run on the machine itself.",
    "One workspace only.",
    "Running functions end, and run again, when the node agent restarts.",
)


@dataclass
class _Container:
    """One whose end nobody has waited for. `pipes` are our own read ends: see `Started`."""

    spec: ContainerSpec
    process: subprocess.Popen[bytes]
    pipes: tuple[int, int]
    ended: asyncio.Future[ExitStatus]
    by_us: bool = False
    usage: Usage = field(default_factory=Usage)
    #: Held to signal and to reap, so that the pid is surely the container's when it is signalled.
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def mark(self) -> str:
        return f"{MARK}={self.spec.id}"


class ProcessRuntime(Runtime):
    """Plain processes. `state` keeps a record of each, so that a later life can end what this one leaves."""

    name: ClassVar[str] = "process"
    losses: tuple[str, ...] = LOSSES

    def __init__(self, state: Path) -> None:
        self._records = state / "processes"
        self._containers: dict[str, _Container] = {}
        self._workspace: str | None = None

    async def start(self, spec: ContainerSpec) -> Started:
        self._refuse_what_cannot_be(spec)
        descriptors = [*os.pipe(), *os.pipe()]
        stdout, stdout_writer, stderr, stderr_writer = descriptors
        try:
            self._records.mkdir(parents=True, exist_ok=True)
            (self._records / spec.id).touch()
            process = _spawn(spec, stdout_writer, stderr_writer)
        except (OSError, ValueError) as error:
            _close(descriptors)
            self._forget(spec.id)
            raise DriverError(f"cannot run {spec.argv[0]} in {spec.cwd}: {error}") from error
        _close([stdout_writer, stderr_writer])
        loop = asyncio.get_running_loop()
        container = _Container(spec, process, (os.dup(stdout), os.dup(stderr)), loop.create_future())
        self._containers[spec.id] = container
        self._workspace = spec.workspace
        threading.Thread(target=self._watch, args=(container, loop), daemon=True).start()
        return Started(spec.id, process.pid, stdout, stderr)

    async def wait(self, container_id: str) -> ExitStatus:
        container = self._containers.get(container_id)
        if container is None:
            raise DriverError(f"there is no container {container_id}")
        status = await asyncio.shield(container.ended)
        self._containers.pop(container_id, None)
        return status

    async def kill(self, container_id: str, signal: int = 9) -> None:
        """SIGKILL goes to the process group; `_watch` ends those that left it when the main process has."""
        container = self._containers.get(container_id)
        if container is None:
            return
        with container.lock, suppress(ProcessLookupError):
            if container.process.returncode is None:
                container.by_us = container.by_us or signal in {signals.SIGKILL, signals.SIGTERM}
                send = os.killpg if signal == signals.SIGKILL else os.kill
                send(container.process.pid, signal)

    async def join(self, container_id: str, command: Command) -> Guest:
        container = self._containers.get(container_id)
        if container is None or container.ended.done():
            raise DriverError(f"container {container_id} does not run")
        spec = container.spec
        env = {**spec.env, **command.env, MARK: spec.id}
        return ProcessGuest.started(command, env, command.cwd or spec.cwd)

    async def usage(self, container_id: str) -> Usage:
        container = self._containers.get(container_id)
        if container is None or container.ended.done():
            return Usage()
        found = await asyncio.to_thread(members.find, container.mark, container.process.pid)
        container.usage = _later(
            container.usage, sum(p.cpu_seconds for p in found), sum(p.memory_bytes for p in found)
        )
        return container.usage

    async def adopt(self) -> list[Started]:
        """None: the pipes of an earlier life are closed. What it left running is killed."""
        with suppress(FileNotFoundError):
            for container_id in os.listdir(self._records):
                if container_id not in self._containers:
                    await asyncio.to_thread(members.kill_all, f"{MARK}={container_id}", None)
                    self._forget(container_id)
        return []

    async def close(self) -> None:
        for container_id in list(self._containers):
            await self.kill(container_id)
            with suppress(DriverError):
                await self.wait(container_id)

    def _refuse_what_cannot_be(self, spec: ContainerSpec) -> None:
        if not ID.fullmatch(spec.id):
            raise DriverError(f"{spec.id!r} is no id of a container")
        if spec.id in self._containers:
            raise DriverError(f"container {spec.id} exists already")
        if self._workspace not in {None, spec.workspace}:
            raise DriverError(
                f"this node cannot isolate workspaces from one another and serves {self._workspace} only"
            )
        if spec.network == "none":
            raise DriverError("block_network needs network namespaces, which this host does not allow")
        if spec.upper is not None:
            raise DriverError("this image step needs isolation, which this host does not allow")

    def _watch(self, container: _Container, loop: asyncio.AbstractEventLoop) -> None:
        """Runs in a thread of its own until the container has ended with all its processes."""
        pid = container.process.pid
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        # Not reaped yet: the pid, and so the id of its session, cannot be somebody else's.
        members.kill_all(container.mark, pid)
        with container.lock:
            _, status, used = os.wait4(pid, 0)
            container.process.returncode = os.waitstatus_to_exitcode(status)
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(self._finish, container, used)

    def _finish(self, container: _Container, used: resource.struct_rusage) -> None:
        code = container.process.returncode
        seconds, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
        status = ExitStatus(
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            by_us=container.by_us,
            usage=_later(_later(container.usage, seconds, peak), seconds, 0),
        )
        _close(container.pipes)
        self._forget(container.spec.id)
        container.ended.set_result(status)

    def _forget(self, container_id: str) -> None:
        (self._records / container_id).unlink(missing_ok=True)


def _spawn(spec: ContainerSpec, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        spec.argv,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=spec.cwd,
        env={**spec.env, MARK: spec.id},
        start_new_session=True,
    )
    with suppress(OSError, ValueError):  # it has ended already, or the limits of this user are lower
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        if spec.resources.memory_limit_mib is not None:
            # Data, not address space: numeric libraries reserve far more addresses than they use.
            limit = spec.resources.memory_limit_mib * MIB
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (limit, limit))
    return process


def _later(usage: Usage, cpu_seconds: float, memory_bytes: int) -> Usage:
    """A new measurement. CPU never goes back, though that of some ended processes is no longer seen."""
    return Usage(
        cpu_seconds=max(usage.cpu_seconds or 0.0, cpu_seconds),
        memory_bytes=memory_bytes,
        memory_peak_bytes=max(usage.memory_peak_bytes or 0, memory_bytes),
    )


def _close(descriptors: tuple[int, ...] | list[int]) -> None:
    for fd in descriptors:
        os.close(fd)
