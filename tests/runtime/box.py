"""Containers for tests: a launcher of the test's own, and the host's programs as their root."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from squall.runtime.launcher.config import Config
from squall.runtime.launcher.start import start_launcher
from squall.runtime.namespaces import NamespacesRuntime
from squall.runtime.probe import host_root
from squall.runtime.spec import ContainerSpec, ExitStatus, Mount, Resources
from tests.house.slowness import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from squall.runtime.driver import Started

T = TypeVar("T")

#: The interpreter itself, not a virtual environment's link to it, and where it lives.
PYTHON = os.path.realpath(sys.executable)
PREFIX = str(Path(PYTHON).parent.parent)
UID_BASE = 1_000_000
RANGE = 65_536
TIMEOUT_S = 60 * SLOWNESS


@dataclass(frozen=True)
class Result:
    status: ExitStatus
    out: str
    err: str


class Box:
    """A launcher, a driver connected to it, and an event loop for them."""

    def __init__(self, directory: Path, options: Sequence[str] = ()) -> None:
        self.directory = directory
        self.socket = directory / "launcher.sock"
        self.state = directory / "launcher"
        self.layers = directory / "layers"
        self.base = self.layers / "base"
        self.base.mkdir(parents=True, exist_ok=True)
        self.mounts = _host_mounts(self.base)
        self.loop = asyncio.new_event_loop()
        self._options = options
        self._count = 0
        self.boot()

    def boot(self) -> None:
        self.boot_launcher()
        self.runtime = self.connect()

    def boot_launcher(self) -> None:
        """For drivers that are waiting for it."""
        readable = ["/usr", *(m.source for m in self.mounts)]
        self.process = start_launcher(
            self.state,
            self.socket,
            owner_uid=os.geteuid(),
            readable=readable,
            writable=[str(self.layers)],
            options=self._options,
            log=2,
        )

    def kill_launcher(self) -> None:
        self.process.kill()
        self.process.wait()

    def connect(self) -> NamespacesRuntime:
        return self.do(NamespacesRuntime.connect(self.socket))

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, TIMEOUT_S))

    def spec(self, *argv: str, mounts: Sequence[Mount] = (), **fields: Any) -> ContainerSpec:
        self._count += 1
        given: dict[str, Any] = {
            "id": f"box-{self._count}",
            "workspace": "tests",
            "uid_base": UID_BASE,
            "layers": (str(self.base),),
            "env": {"PATH": "/usr/bin:/bin"},
            "network": "none",
        }
        return ContainerSpec(argv=argv, mounts=(*self.mounts, *mounts), **(given | fields))

    def start(self, *argv: str, **fields: Any) -> Started:
        return self.do(self.runtime.start(self.spec(*argv, **fields)))

    def start_python(self, code: str, **fields: Any) -> Started:
        return self.start(PYTHON, "-I", "-S", "-c", code, **fields)

    def end(self, started: Started) -> Result:
        """Wait for its end; what it wrote must fit a pipe."""
        status = self.do(self.runtime.wait(started.id))
        return Result(status, drain(started.stdout), drain(started.stderr))

    def run(self, *argv: str, **fields: Any) -> Result:
        return self.end(self.start(*argv, **fields))

    def sh(self, script: str, **fields: Any) -> Result:
        return self.run("/bin/sh", "-c", script, **fields)

    def python(self, code: str, **fields: Any) -> Result:
        return self.end(self.start_python(code, **fields))

    def layer(self, name: str) -> Path:
        """A new empty layer."""
        path = self.layers / name
        path.mkdir()
        return path

    def keeper(self) -> int:
        """The pid of this launcher's keeper."""
        title = f"squall-keeper {self.state}".encode()
        found = [p for p in Path("/proc").glob("[0-9]*/cmdline") if _starts_with(p, title)]
        return int(found[0].parent.name)

    def groups(self, name: str = "") -> list[str]:
        """The control groups of a container, or the launcher's own. (Those of others come and go.)"""
        key = Config(self.state, self.socket, 0, (), ()).key
        wanted = f"/squall-{key}/{name}".rstrip("/")
        return [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if folder.endswith(wanted)]

    def close(self) -> None:
        try:
            self.do(self.runtime.close())
            self.process.wait(TIMEOUT_S)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of a launcher that has ended."""
        self.runtime.disconnect()
        self.loop.run_until_complete(asyncio.sleep(0))  # what it has cancelled ends
        self.loop.close()


def drain(fd: int) -> str:
    """All that is left in a pipe whose writers are gone."""
    with os.fdopen(fd, "rb") as pipe:
        return pipe.read().decode(errors="replace")


def read_line(fd: int) -> str:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(fd, 1)
        if not piece:
            break
        line += piece
    return line.decode().strip()


def _starts_with(path: Path, start: bytes) -> bool:
    try:
        return path.read_bytes().startswith(start)
    except OSError:
        return False


def limited(**fields: int) -> Resources:
    return Resources(**fields)


def _host_mounts(base: Path) -> tuple[Mount, ...]:
    mounts = host_root(base) if not any(base.iterdir()) else ()
    if any(PREFIX.startswith(m.source + "/") or m.source == PREFIX for m in mounts):
        return mounts
    return (*mounts, Mount(PREFIX, PREFIX))
