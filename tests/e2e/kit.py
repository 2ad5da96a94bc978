"""A whole Squall for tests: a daemon with a state directory of its own, and commands that use it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from squall.client import daemon_record, embedded
from squall.client.connect import connect
from squall.sdk import handles, modes
from squall.wire.control import Empty
from tests.house import leaks
from tests.house.slowness import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squall.client.api import Client
    from squall.client.daemon_record import DaemonRecord, Process

#: What the busiest machine may need for anything here (seconds).
PATIENCE_S = 60.0 * SLOWNESS

#: A server that waits for nobody as long as usual: leases and vanished clients are given up soon.
IMPATIENT = {
    "SQUALL_LEASE": f"{6 * SLOWNESS:g}",
    "SQUALL_GRACE": f"{4 * SLOWNESS:g}",
    "SQUALL_HEARTBEAT": f"{SLOWNESS:g}",
}

_SETTINGS = ("SERVER_URL", "TOKEN", "IS_REMOTE", "TRACEBACK", "SOCKET", "ENVIRONMENT")


def until(condition: Callable[[], Any], what: str = "", patience: float = PATIENCE_S) -> Any:
    """What the condition gives, once it gives something."""
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, f"it did not come to that: {what or condition}"
        time.sleep(0.02)
    return found


class Daemon:
    """`driver` is the one asked for; empty for the best that the host can do. `settings` are variables."""

    def __init__(
        self,
        folder: Path,
        driver: str = "",
        arguments: tuple[str, ...] = (),
        settings: dict[str, str] | None = None,
    ) -> None:
        self.state = str(folder / "state")
        self._driver = driver
        self._arguments = arguments
        self._more = settings or {}
        self._clients: dict[str, Client] = {}

    @contextmanager
    def environment(self) -> Iterator[None]:
        """In the block, a program that uses Squall uses this daemon."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables().items():
                patch.setenv(name, value)
            for name in _SETTINGS:
                patch.delenv(f"SQUALL_{name}", raising=False)
            if not self._driver:
                patch.delenv("SQUALL_DRIVER", raising=False)
            patch.setattr(modes, "_clients", self._clients)
            patch.setattr(embedded, "START_S", PATIENCE_S)
            patch.setattr(handles.OfContainer, "_functions", None)
            yield

    def variables(self) -> dict[str, str]:
        driver = {"SQUALL_DRIVER": self._driver} if self._driver else {}
        return {"SQUALL_STATE": self.state, **driver, **self._more}

    @contextmanager
    def life(self) -> Iterator[Daemon]:
        """Started by the first client, as for any user; after the block nothing is left of it."""
        before = leaks.snapshot()
        with self.environment():
            try:
                with base_system(Path(self.state)) as make:
                    if self._arguments:
                        embedded.ensure(self.state, self._arguments)
                    connect().close()
                    if make and self.record.driver == "namespaces":
                        self.squall("run", str(Path(__file__).parent / "apps" / "nothing.py"), patience=300.0)
                yield self
            finally:
                for client in self._clients.values():
                    client.close()
                embedded.stop(self.state)
        found = leaks.wait_for_leaks(before, (self.state,))
        shutil.rmtree(self.state)
        assert found == [], "the daemon left something on the host"

    # ------------------------------------------------------------------------------------------- its parts

    @property
    def record(self) -> DaemonRecord:
        found = daemon_record.read(self.state)
        assert found is not None, "the daemon does not run"
        return found

    def child(self, name: str) -> Process:
        """The server, the launcher or the node."""
        found = until(lambda: self._child(name), f"a process {name}")
        assert isinstance(found, daemon_record.Process)
        return found

    def _child(self, name: str) -> Process | None:
        return next((c for c in daemon_record.read_children(self.state) if c.name == name), None)

    def status(self) -> Any:
        return self.client().request("status", Empty())

    def client(self) -> Client:
        """The one that the SDK uses."""
        return modes._shared("")

    def containers(self, function: str) -> list[Any]:
        listed = self.client().request("container.list", Empty()).containers
        return [c for c in listed if c.function == function]

    # ---------------------------------------------------------------------------------------------- commands

    def squall(
        self, *arguments: str, cwd: Path | None = None, code: int | None = 0, patience: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run `squall ...`; `code` is the exit status that it must have."""
        done = subprocess.run(
            self.command(*arguments), cwd=cwd, env=self.environ(), capture_output=True, text=True,
            timeout=patience, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "squall", *arguments]

    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SQUALL_")}
        return {**kept, **self.variables(), "PYTHONUNBUFFERED": "1"}


# ----------------------------------------------------------------------------------------- the base system


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "squall-tests" / "layers"


@contextmanager
def base_system(state: Path) -> Iterator[bool]:
    """Lends the Debian that an earlier daemon of these tests has made, as that takes half a minute.

    True where there is none: it is for the block to have it made, and others wait for that.
    """
    if os.geteuid() != 0:
        yield False
        return
    _cache().parent.mkdir(parents=True, exist_ok=True)
    with (_cache().parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if lend_base(state):
            fcntl.flock(lock, fcntl.LOCK_UN)
            yield False
        else:
            yield True
            _keep_base(state)


def lend_base(state: Path) -> bool:
    if os.geteuid() != 0 or not _cache().is_dir():
        return False
    (state / "node").mkdir(parents=True)
    _copy(_cache(), state / "node" / "layers")
    return True


def _keep_base(state: Path) -> None:
    layers = state / "node" / "layers"
    if list(layers.glob("*.json")):
        fresh = _cache().with_name(f"layers-{os.getpid()}")
        _copy(layers, fresh)
        fresh.rename(_cache())


def _copy(source: Path, target: Path) -> None:
    """By hard links, if they are on one file system: nobody changes a layer."""
    linked = subprocess.run(["cp", "-al", "--", source, target], check=False, capture_output=True)
    if linked.returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", "--", source, target], check=True)
