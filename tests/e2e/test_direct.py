"""Direct lines: whatever happens on one, a caller sees what it would have seen by way of the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from squall import exception
from tests.e2e.apps import direct
from tests.e2e.kit import Daemon, until
from tests.e2e.test_crashes import kill, processes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squall.client.direct import Line

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def world(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon to be mistreated. (The common one is there first: it has the base system made.)"""
    with Daemon(tmp_path_factory.mktemp("direct")).life() as world, world.environment(), direct.app.run():
        yield world


def lines(world: Daemon) -> list[Line]:
    """Those of this process on which nobody talks."""
    (client,) = world._clients.values()
    assert client.lines is not None
    return [line for known in client.lines._functions.values() for line in known.idle]


def dial(world: Daemon) -> None:
    """Call until there is a line, which has served some calls."""

    def called() -> bool:
        assert direct.act.remote("", 1) == 1
        return any(line._number > 3 for line in lines(world))

    hang_up(world)
    until(called, "a line")


def hang_up(world: Daemon) -> None:
    """As at the beginning: no lines, and no pause before the next one."""
    (client,) = world._clients.values()
    assert client.lines is not None
    client.lines.close()
    for known in client.lines._functions.values():
        known.closed = False
        known.habit.pause = known.habit.not_before = 0.0


def test_calls_go_over_a_line_once_some_were_quick(world: Daemon) -> None:
    dial(world)
    (line,) = lines(world)
    before = line._number
    assert [direct.act.remote("", n) for n in range(50)] == list(range(50))
    assert line._number == before + 50


def test_an_exception_is_the_callers(world: Daemon) -> None:
    dial(world)
    with pytest.raises(direct.OddError, match="odd") as raised:
        direct.act.remote("raise")
    assert "act" in [entry.name for entry in raised.traceback]
    assert direct.act.remote("", 2) == 2


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_a_large_result_and_large_arguments(world: Daemon, size: int) -> None:
    dial(world)
    assert direct.act.remote("large", size) == b"x" * size
    dial(world)
    assert direct.act.remote("", b"y" * size) == b"y" * size


@pytest.mark.parametrize("how", ["print", "shell"])
def test_what_is_printed_comes_before_the_result(world: Daemon, how: str) -> None:
    """In a program of its own, whose terminal shows what is printed."""
    program = f"""
import time
from tests.e2e.apps import direct
from squall.sdk import modes
import squall
with squall.enable_output(), direct.app.run():
    for n in range(30):
        direct.act.remote("", n)
    (client,) = modes._clients.values()
    assert any(known.idle for known in client.lines._functions.values()), "no line"
    for n in range(5):
        direct.act.remote({how!r}, f"printed-{{n}}")
        print(f"returned-{{n}}", flush=True)
        for _ in range(5):
            direct.act.remote("", n)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [w for w in done.stdout.split() if w.startswith(("printed-", "returned-"))]
    assert told == [f"{what}-{n}" for n in range(5) for what in ("printed", "returned")]


def test_an_exit_is_told_of_the_call_that_did_it(world: Daemon) -> None:
    dial(world)
    with pytest.raises(exception.RemoteError, match="7"):
        direct.act.remote("exit")
    assert direct.act.remote("", 3) == 3


def test_a_timeout(world: Daemon) -> None:
    for _ in range(10):
        assert direct.short.remote(0) == 0
    with pytest.raises(exception.FunctionTimeoutError):
        direct.short.remote(60)
    assert direct.short.remote(0) == 0


def test_a_slow_call_is_no_reason_to_time_out_a_line(world: Daemon) -> None:
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        assert direct.short.remote(0.01) == 0.01
    assert direct.short.remote(0.5) == 0.5


def test_ids_are_of_each_call_alone(world: Daemon) -> None:
    dial(world)
    ids: list[Any] = [direct.act.remote("ids") for _ in range(5)]
    assert len({input_id for input_id, _ in ids}) == 5
    assert all(input_id.startswith(f"{call_id}:") for input_id, call_id in ids)


def test_a_nested_call(world: Daemon) -> None:
    dial(world)
    assert [direct.act.remote("nested", n) for n in range(5)] == [1, 2, 3, 4, 5]


def test_a_method_of_a_class_keeps_its_object(world: Daemon) -> None:
    counter = direct.Counter()
    assert [counter.up.remote() for _ in range(30)] == list(range(1, 31))
    assert counter.read.remote() == 30


def test_a_function_with_retries_has_no_lines(world: Daemon) -> None:
    hang_up(world)
    assert [direct.again.remote(n) for n in range(20)] == list(range(20))
    assert lines(world) == []


def test_threads_of_one_program_share_a_function_of_one_container(world: Daemon) -> None:
    """A line makes way for those that have none; nobody starves, and every result is the right one."""
    got: dict[int, list[tuple[int, int]]] = {}

    def calls(thread: int) -> None:
        got[thread] = [direct.alone.remote(thread * 1000 + n) for n in range(100)]

    threads = [threading.Thread(target=calls, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for number, results in got.items():
        assert [x for x, _ in results] == [number * 1000 + n for n in range(100)]
    assert len(got) == 4
    assert len({pid for results in got.values() for _, pid in results}) == 1


def test_a_caller_that_stops_in_mid_call_keeps_nobody_waiting(world: Daemon) -> None:
    hang_up(world)
    for n in range(20):
        direct.alone.remote(n)
    (line,) = lines(world)
    line._socket.sendall(b"\0\0\1")
    assert list(direct.alone.map(range(3)))[2][0] == 2


def test_a_map_while_there_is_a_line(world: Daemon) -> None:
    dial(world)
    assert list(direct.act.map([""] * 50, range(50))) == list(range(50))
    assert direct.act.remote("", 5) == 5


def test_a_line_that_nobody_uses_ends_and_its_container_idles(world: Daemon) -> None:
    dial(world)
    until(lambda: all(c.running == 0 for c in world.containers("act")), "the line's end")
    assert direct.act.remote("", 6) == 6


def test_a_cancelled_call_ends_in_its_container(world: Daemon) -> None:
    dial(world)

    def interrupt() -> None:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        direct.act.remote("sleep", 60)
    until(lambda: all(c.running == 0 for c in world.containers("act")), "its end", 20)
    assert direct.act.remote("", 7) == 7


def test_a_killed_container_loses_no_call(world: Daemon) -> None:
    dial(world)
    results: list[object] = []

    def calls() -> None:
        results.extend(direct.act.remote("sleep", 0.02) for _ in range(100))

    caller = threading.Thread(target=calls)
    caller.start()
    for _ in range(2):
        time.sleep(0.7)
        for container in world.containers("act"):
            for pid in processes_of(container.id):
                os.kill(pid, signal.SIGKILL)
    caller.join(120)
    assert results == [0.02] * 100


@pytest.mark.parametrize("name", ["server", "node"])
def test_a_killed_part_loses_no_call(world: Daemon, name: str) -> None:
    dial(world)
    results: list[object] = []

    def calls() -> None:
        results.extend(direct.act.remote("sleep", 0.01) for _ in range(200))

    caller = threading.Thread(target=calls)
    caller.start()
    time.sleep(0.5)
    kill(world, name)
    caller.join(120)
    assert results == [0.01] * 200
    until(lambda: direct.act.remote("", 8) == 8, "a call afterwards")


def test_a_call_that_outlives_its_agent_is_not_made_again(world: Daemon) -> None:
    counter = direct.Counter()
    before = [counter.up.remote() for _ in range(30)][-1]
    killer = threading.Timer(0.5, kill, (world, "node"))
    killer.start()
    after = counter.up.remote(3.0)
    killer.join(120)
    if world.record.driver == "namespaces":
        assert after == before + 1


def test_a_program_that_is_killed_leaves_its_container_free(world: Daemon) -> None:
    program = """
import os, signal
from tests.e2e.apps import direct
with direct.app.run():
    for n in range(30):
        direct.act.remote("", n)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False
    )
    until(lambda: all(c.running == 0 for c in world.containers("act")), "the line's end", 20)
