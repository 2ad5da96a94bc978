"""A laptop that slept goes on: all of Squall, and the program that waits, stop for longer than a node's lease
and a vanished client's grace, and each input still runs once.

A real sleep stops the monotonic clock too, by which all is timed; here it goes on, as where a whole virtual
machine or container is paused. So this is the harder case.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.kit import IMPATIENT, PATIENCE_S, Daemon, until
from tests.e2e.test_reconnected import PROGRAM, under_way
from tests.soak.parts import PARTS, Parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

#: Longer than the lease, and than the grace after a connection that has fallen silent (seconds).
SLEEP_S = 2.5 * float(IMPATIENT["SQUALL_LEASE"])
#: Who wakes first has a while to act before the others do (seconds).
HEAD_START_S = 1.0


@pytest.fixture(scope="module", autouse=True)
def world(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("asleep")
    with Daemon(folder, settings=IMPATIENT).life() as world, world.environment():
        yield world


def sleep(world: Daemon, program: int, first: str) -> None:
    pids = {part: Parts(world.state).find(part) for part in PARTS}
    everybody = [program, *(pid for found in pids.values() for pid in found)]
    try:
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(SLEEP_S)
        for pid in pids[first]:
            os.kill(pid, signal.SIGCONT)
        time.sleep(HEAD_START_S)
    finally:
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("first", ["server", "node"])
@pytest.mark.parametrize("kind", ["threads", "map", "spawn", "generator", "aio"])
def test_calls_go_on(world: Daemon, tmp_path: Path, kind: str, first: str) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        program = subprocess.Popen(
            world.command("run", str(PROGRAM), "--kind", kind),
            env=world.environ(), stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        until(lambda: under_way(world), "calls that run")
        sleep(world, program.pid, first)
        assert program.wait(PATIENCE_S) == 0, err.read_text()
    finally:
        program.kill()
        program.wait()
    said = out.read_text()
    assert said.endswith("right\n"), err.read_text()
    assert kind == "generator" or "runs: 1\n" in said
