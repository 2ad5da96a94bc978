"""The server dies while a program waits: it goes on by itself, and its terminal says so once each time."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from squall.wire.control import Empty
from tests.e2e.kit import PATIENCE_S, Daemon, until
from tests.house.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PROGRAM = ROOT / "tests" / "e2e" / "apps" / "outage.py"
TOLD = "squall: connected to the server again\n"


@pytest.fixture(scope="module", autouse=True)
def world(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("outage")).life() as world, world.environment():
        yield world


def kill_server(world: Daemon) -> None:
    old = world.child("server")
    old.signal(signal.SIGKILL)
    until(lambda: world.child("server") != old, "another server")


def under_way(world: Daemon) -> Any:
    return [c for c in world.client().request("container.list", Empty()).containers if c.running]


def has_told(file: Path, times: int) -> bool:
    return file.read_text().count(TOLD) >= times


def see(world: Daemon, command: list[str], folder: Path, kills: int) -> None:
    """Run a program, kill the server so often while its calls run, and look at what it says."""
    out, err = folder / "out", folder / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        program = subprocess.Popen(
            command, env=world.environ(), stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL
        )
    try:
        until(lambda: under_way(world), "calls that run")
        for number in range(1, kills + 1):
            kill_server(world)
            until(partial(has_told, err, number), "it says that it is back")
        assert program.wait(PATIENCE_S) == 0, err.read_text()
    finally:
        program.kill()
        program.wait()
    assert out.read_text().endswith("right\n"), err.read_text()
    assert err.read_text().count(TOLD) == kills, err.read_text()


@pytest.mark.parametrize(
    ("kind", "kills"),
    [("remote", 2), ("threads", 1), ("aio", 1), ("map", 1), ("generator", 1), ("spawn", 1)],
)
def test_once_for_each_outage(world: Daemon, tmp_path: Path, kind: str, kills: int) -> None:
    see(world, world.command("run", str(PROGRAM), "--kind", kind), tmp_path, kills)


def test_once_in_a_program_on_asyncio(world: Daemon, tmp_path: Path) -> None:
    see(world, [sys.executable, str(PROGRAM)], tmp_path, 1)
