"""Large payloads on one host: by descriptor, bounded, and through the death of every part of the system."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.apps import calls
from tests.e2e.kit import Daemon, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def world(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon to be mistreated. (The common one is there first: it has the base system made.)"""
    with Daemon(tmp_path_factory.mktemp("payloads")).life() as world, world.environment(), calls.app.run():
        yield world


def kill(world: Daemon, name: str) -> None:
    old = world.child(name)
    old.signal(signal.SIGKILL)
    until(lambda: world.child(name) != old and world.child(name).alive(), f"{name} is started again")


def blobs(world: Daemon) -> set[str]:
    return {str(p) for p in (Path(world.state) / "server" / "blobs").rglob("*") if p.stat().st_size >= MB}


def memory(world: Daemon) -> int:
    """Of the server's own, at its highest, in bytes."""
    status = Path(f"/proc/{world.child('server').pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def memory_files(world: Daemon, name: str) -> int:
    folder = Path(f"/proc/{world.child(name).pid}/fd")
    return sum("memfd:" in _target(path) for path in folder.iterdir())


def _target(path: Path) -> str:
    """Of a descriptor's link; nothing if it was closed meanwhile."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def test_nothing_of_it_touches_the_disk_or_the_servers_memory(world: Daemon) -> None:
    calls.same.remote(b"warm")
    before = blobs(world), memory(world)
    data = os.urandom(200 * MB)
    assert calls.same.remote(data) == data
    assert list(calls.same.map([data[:MB], data[: 2 * MB]])) == [data[:MB], data[: 2 * MB]]
    assert blobs(world) == before[0]
    assert memory(world) - before[1] < 20 * MB
    until(lambda: memory_files(world, "server") == 0, "the server lets go")
    until(lambda: memory_files(world, "node") == 0, "the agent lets go")


def test_a_spawned_one_is_on_disk(world: Daemon) -> None:
    data = os.urandom(5 * MB)
    before = blobs(world)
    call = calls.same.spawn(data)
    assert len(blobs(world) - before) == 1, "the arguments are on disk when it is accepted"
    assert call.get(timeout=120) == data
    assert len(blobs(world) - before) == 2, "and so is the result"


@pytest.mark.parametrize("part", ["server", "node"])
def test_arguments_that_wait_while_a_part_dies(world: Daemon, part: str) -> None:
    """One container: the second input waits for the first."""
    data = [os.urandom(3 * MB) for _ in range(4)]
    results = calls.same.map(data, [1.0] * 4)
    got: list[bytes] = []
    waiter = threading.Thread(target=lambda: got.extend(results))
    waiter.start()
    until(lambda: any(c.running for c in world.containers("same")), "one that works")
    kill(world, part)
    waiter.join(240)
    assert got == data


def test_results_that_nobody_has_taken_when_the_server_dies(world: Daemon) -> None:
    data = [os.urandom(3 * MB) for _ in range(6)]
    results = iter(calls.same.map(data))
    got = [next(results)]
    until(lambda: memory_files(world, "server") > 0, "results wait")
    kill(world, "server")
    got += results
    assert got == data
    until(lambda: memory_files(world, "server") == 0, "the server lets go")
    until(lambda: memory_files(world, "node") == 0, "the agent lets go")


def test_a_call_that_was_given_up_leaves_nothing(world: Daemon) -> None:
    results: Any = iter(calls.same.map([os.urandom(3 * MB) for _ in range(4)], [0.2] * 4))
    next(results)
    results.close()
    until(lambda: memory_files(world, "server") == 0, "the server lets go")
    until(lambda: memory_files(world, "node") == 0, "the agent lets go")
