"""Parts of the system are killed while calls run: nothing accepted is lost, and each result comes once."""

from __future__ import annotations

import os
import signal
import threading
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from squall import exception
from tests.e2e.apps import calls
from tests.e2e.kit import Daemon, until
from tests.house.source import ROOT
from tests.soak.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def world(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon to be mistreated. (The common one is there first: it has the base system made.)"""
    with Daemon(tmp_path_factory.mktemp("crashes")).life() as world, world.environment(), calls.app.run():
        yield world


def processes_of(container: str) -> list[int]:
    """The pids of a container's processes, as the host sees them."""
    mark = f"SQUALL_TASK_ID={container}\0".encode()
    return [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/environ") if mark in _read(p)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes() + b"\0"
    except OSError:
        return b""


def kill(world: Daemon, name: str) -> None:
    """And wait until there is another one."""
    old = world.child(name)
    old.signal(signal.SIGKILL)
    until(lambda: not old.alive(), f"{name} dies")
    until(lambda: world.child(name) != old and world.child(name).alive(), f"{name} is started again")


def test_a_container_in_the_middle_of_a_map(world: Daemon) -> None:
    results = calls.double.map(range(40), [0] * 40, [0.1] * 40)
    begun = list(islice(results, 3))
    victim = until(lambda: [c for c in world.containers("double") if c.running], "one that works")[0].id
    for pid in processes_of(victim):
        os.kill(pid, signal.SIGKILL)
    assert [*begun, *results] == [2 * x for x in range(40)]
    assert victim not in {c.id for c in world.containers("double")}


def test_the_agent_in_the_middle_of_a_map(world: Daemon) -> None:
    results = calls.task.map([0.1] * 40)
    begun = list(islice(results, 3))
    kill(world, "node")
    containers = [*begun, *results]
    assert len(containers) == 40
    if world.record.driver == "namespaces":
        assert len(set(containers)) <= 2, "its containers went on"


def test_the_server_in_the_middle_of_everything(world: Daemon) -> None:
    spawned = calls.wait.spawn(3.0)
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.append(spawned.get(timeout=120)))
    waiter.start()
    results = calls.double.map(range(40), [0] * 40, [0.1] * 40)
    begun = list(islice(results, 3))
    kill(world, "server")
    assert [*begun, *results] == [2 * x for x in range(40)]
    waiter.join(120)
    assert got == ["waited"]


@pytest.mark.parametrize("name", ["server", "node"])
def test_a_generator_has_no_hole(world: Daemon, name: str) -> None:
    """All values, or an error after those that came: never a wait for ever, never a part that looks whole."""
    values: Any = calls.slowly.remote_gen(60, 0.02)
    got = list(islice(values, 10))
    kill(world, name)
    try:
        got += values
    except exception.InternalFailure:
        assert 10 <= len(got) < 60
    else:
        assert len(got) == 60
    assert got == list(range(len(got)))
    assert list(calls.slowly.remote_gen(3, 0)) == [0, 1, 2]


def test_server_and_agent_at_once(world: Daemon) -> None:
    spawned = calls.wait.spawn(2.0)
    results = calls.double.map(range(30), [0] * 30, [0.1] * 30)
    begun = list(islice(results, 3))
    old = world.child("node"), world.child("server")
    for process in old:
        process.signal(signal.SIGKILL)
    assert [*begun, *results] == [2 * x for x in range(30)]
    assert spawned.get(timeout=120) == "waited"


def test_the_launcher(world: Daemon) -> None:
    if world.record.driver != "namespaces":
        pytest.skip(f"the driver {world.record.driver} has no launcher")
    results = calls.task.map([0.1] * 30)
    begun = list(islice(results, 3))
    kill(world, "launcher")
    assert len([*begun, *results]) == 30
    assert calls.quadruple.remote(1) == 4


def part(world: Daemon, name: str) -> int:
    """The pid of a part that the launcher makes."""
    if world.record.driver != "namespaces":
        pytest.skip(f"the driver {world.record.driver} has no {name}")
    (pid,) = until(lambda: Parts(world.state).find(name), f"a {name}")
    return int(pid)


def test_the_zone_takes_its_containers_along_and_their_inputs_run_again(world: Daemon) -> None:
    results = calls.task.map([0.1] * 30)
    begun = list(islice(results, 3))
    zone = part(world, "zone")
    os.kill(zone, signal.SIGKILL)
    containers = [*begun, *results]
    assert len(containers) == 30
    assert set(containers) - set(begun), "others went on with it"
    assert part(world, "zone") != zone


def test_the_keeper_and_then_the_launcher(world: Daemon) -> None:
    """Without a keeper nothing is lost; the next one has all that the next launcher needs."""
    results = calls.task.map([0.1] * 60)
    begun = list(islice(results, 3))
    keeper = part(world, "keeper")
    os.kill(keeper, signal.SIGKILL)
    assert calls.quadruple.remote(1) == 4
    kill(world, "launcher")
    assert len([*begun, *results]) == 60
    assert calls.quadruple.remote(2) == 8
    assert part(world, "keeper") != keeper


def test_the_supervisor_and_a_new_client_comes(world: Daemon) -> None:
    spawned = calls.wait.spawn(3.0)
    old, old_server = world.record.process, world.child("server")
    time.sleep(0.5)
    old.signal(signal.SIGKILL)
    until(lambda: not old.alive(), "the supervisor dies")
    assert calls.double.remote(4) == 8, "the others go on"
    done = world.squall("run", str(ROOT / "examples" / "hello.py"))
    assert done.stdout.endswith("a map: [0, 1, 4, 9, 16]\n")
    assert world.record.process != old
    assert not old_server.alive()
    assert spawned.get(timeout=120) == "waited"
    assert calls.double.remote(5) == 10
    assert list(calls.slowly.remote_gen(3, 0)) == [0, 1, 2]
