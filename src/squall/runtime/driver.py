"""The seam between the agent and what isolates processes. One small abstract class, several drivers.

`namespaces` (the launcher), `process` (no isolation) and `double` (tests) implement it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from squall.runtime.spec import Command, ContainerSpec, ExitStatus, Usage


class DriverError(Exception):
    """A driver could not do what it was asked; the message is one line for a user."""


class LostError(DriverError):
    """What it drives was killed or is out of touch: that says nothing about the container asked for."""


@dataclass(frozen=True)
class Started:
    """A running container: the host's pid of its main process, and the read ends of its output pipes.

    The caller owns the two descriptors. The driver keeps the pipes open, so a container survives the
    death of the reader and blocks (rather than dies of EPIPE) until somebody reads again.
    `stages` of the start are (name, CLOCK_MONOTONIC seconds), in order.
    """

    id: str
    pid: int
    stdout: int
    stderr: int
    stages: tuple[tuple[str, float], ...] = field(default=(), kw_only=True)


class Guest(ABC):
    """A program that joined a running container: non-blocking descriptors to talk to it with.

    With a terminal, all are its master's and there is no `stderr` (-1). They are the guest's, and go with
    `close`. It ends with its container at the latest.
    """

    def __init__(self, stdin: int, stdout: int, stderr: int = -1) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr

    @abstractmethod
    async def wait(self) -> ExitStatus:
        """Wait for its end; SIGKILL is what is said when its container ended first."""

    @abstractmethod
    def close_stdin(self) -> None:
        """No more input comes. A terminal has no such end: there, it does nothing."""

    @abstractmethod
    def close(self) -> None:
        """Let go. What still runs gets SIGHUP, and SIGKILL a few seconds later. Fine to repeat."""


class Runtime(ABC):
    """Starts, watches and ends containers. All methods are called from one asyncio loop."""

    name: ClassVar[str]
    #: What a user loses with this driver, one short sentence each; empty when nothing is lost.
    losses: tuple[str, ...] = ()

    @abstractmethod
    async def start(self, spec: ContainerSpec) -> Started:
        """Start a container. Raises `DriverError` with a one-line reason; leaves nothing behind then."""

    @abstractmethod
    async def wait(self, container_id: str) -> ExitStatus:
        """Wait for the end. Everything of the container (processes, mounts, cgroup) is gone on return."""

    @abstractmethod
    async def kill(self, container_id: str, signal: int = 9) -> None:
        """Signal the container's main process; with SIGKILL, all of its processes. Unknown ids are fine."""

    @abstractmethod
    async def join(self, container_id: str, command: Command) -> Guest:
        """Run a further program in a running container, confined as its own one. Raises `DriverError`."""

    @abstractmethod
    async def usage(self, container_id: str) -> Usage:
        """CPU and memory so far. An ended or unknown container gives an empty `Usage`."""

    @abstractmethod
    async def adopt(self) -> list[Started]:
        """The containers that an earlier life of the agent started and that still run, with their pipes."""

    @abstractmethod
    async def close(self) -> None:
        """Kill all containers and release everything that the driver holds on the host."""
