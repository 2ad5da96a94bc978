"""A driver for tests: containers that exist in memory only, and do what the test says."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, ClassVar

from squall.runtime.driver import DriverError, Guest, Runtime, Started
from squall.runtime.spec import ExitStatus, Usage

if TYPE_CHECKING:
    from squall.runtime.spec import Command, ContainerSpec

#: Above the highest pid of Linux: whoever signals one of ours by mistake hits nobody.
FIRST_PID = 1 << 22


class DoubleGuest(Guest):
    """A guest that a test plays: `theirs` are the program's ends of stdin, stdout and stderr.

    With a terminal, it is one socket, which does as little as the tests need.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self.closed = False
        self._ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        if command.terminal is not None:
            ours, theirs = (end.detach() for end in socket.socketpair())
            super().__init__(ours, ours)
            self.theirs = [theirs]
        else:
            (stdin, write), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
            super().__init__(write, out, err)
            self.theirs = [stdin, stdout, stderr]
        for fd in {self.stdin, self.stdout, self.stderr} - {-1}:
            os.set_blocking(fd, False)

    def finish(self, status: ExitStatus) -> None:
        """The program ends."""
        if not self._ended.done():
            for fd in self.theirs:
                os.close(fd)
            self._ended.set_result(status)

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._ended)

    def close_stdin(self) -> None:
        if self.stdin not in {-1, self.stdout}:
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        for fd in {self.stdin, self.stdout, self.stderr} - {-1}:
            os.close(fd)
        self.stdin = self.stdout = self.stderr = -1
        self.closed = True
        self.finish(ExitStatus(signal=1))


class DoubleRuntime(Runtime):
    """`finish` and `say` act for a container.

    `specs` records what was started, `kills` what was signalled and `guests` what joined; `refusal`, if set,
    is why the next starts fail; `usages` is what `usage` answers.
    """

    name: ClassVar[str] = "double"

    def __init__(self) -> None:
        self.specs: list[ContainerSpec] = []
        self.kills: list[tuple[str, int]] = []
        self.guests: list[DoubleGuest] = []
        self.usages: dict[str, Usage] = {}
        self.refusal: str | None = None
        self._ends: dict[str, asyncio.Future[ExitStatus]] = {}
        self._pipes: dict[str, tuple[int, int]] = {}

    async def start(self, spec: ContainerSpec) -> Started:
        if self.refusal is not None:
            raise DriverError(self.refusal)
        if spec.id in self._ends:
            raise DriverError(f"container {spec.id} exists already")
        self.specs.append(spec)
        stdout, stdout_writer = os.pipe()
        stderr, stderr_writer = os.pipe()
        self._pipes[spec.id] = (stdout_writer, stderr_writer)
        self._ends[spec.id] = asyncio.get_running_loop().create_future()
        return Started(spec.id, FIRST_PID + len(self.specs), stdout, stderr)

    async def wait(self, container_id: str) -> ExitStatus:
        if container_id not in self._ends:
            raise DriverError(f"there is no container {container_id}")
        return await asyncio.shield(self._ends[container_id])

    async def kill(self, container_id: str, signal: int = 9) -> None:
        """SIGKILL ends the container; other signals are only recorded."""
        if container_id in self._pipes:
            self.kills.append((container_id, signal))
            if signal == 9:
                self.finish(container_id, ExitStatus(signal=9, by_us=True))

    async def join(self, container_id: str, command: Command) -> Guest:
        if container_id not in self._pipes:
            raise DriverError(f"container {container_id} does not run")
        if self.refusal is not None:
            raise DriverError(self.refusal)
        self.guests.append(DoubleGuest(command))
        return self.guests[-1]

    async def usage(self, container_id: str) -> Usage:
        return self.usages.get(container_id, Usage()) if container_id in self._pipes else Usage()

    async def adopt(self) -> list[Started]:
        return []

    async def close(self) -> None:
        for container_id in list(self._pipes):
            await self.kill(container_id)

    @property
    def running(self) -> list[str]:
        return list(self._pipes)

    def say(self, container_id: str, text: str, *, stderr: bool = False) -> None:
        """The container writes."""
        os.write(self._pipes[container_id][stderr], text.encode())

    def finish(self, container_id: str, status: ExitStatus) -> None:
        """The container ends."""
        for fd in self._pipes.pop(container_id):
            os.close(fd)
        self._ends[container_id].set_result(status)
