"""Guests of the drivers without namespaces: real processes of this user, and the double's."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from squall.runtime import terminals
from squall.runtime.double import DoubleRuntime
from squall.runtime.driver import DriverError
from squall.runtime.process import ProcessRuntime
from squall.runtime.spec import Command, ContainerSpec, ExitStatus
from tests.house.slowness import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from squall.runtime.driver import Guest

    Test = Callable[[ProcessRuntime], Awaitable[None]]


def spec(*argv: str) -> ContainerSpec:
    return ContainerSpec("ct-1", "ws-1", 0, argv, env={"PATH": os.environ["PATH"], "OWN": "1"}, cwd="/")


def run(state: Path, test: Test) -> None:
    """With a container that waits."""

    async def story() -> None:
        runtime = ProcessRuntime(state)
        try:
            started = await runtime.start(spec(sys.executable, "-c", "import time; time.sleep(600)"))
            await test(runtime)
            os.close(started.stdout)
            os.close(started.stderr)
        finally:
            await runtime.close()

    asyncio.run(asyncio.wait_for(story(), 60))


async def read_all(guest: Guest, fd: int) -> bytes:
    os.set_blocking(fd, True)
    data = b""
    try:
        while piece := await asyncio.to_thread(os.read, fd, 4096):
            data += piece
    except OSError:  # a terminal's end
        pass
    await guest.wait()
    return data


def test_pipes(tmp_path: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        command = Command(("/bin/sh", "-c", "cat; echo $OWN $ASKED; pwd; exit 4"), {"ASKED": "2"}, "/tmp")
        guest = await runtime.join("ct-1", command)
        os.write(guest.stdin, b"in\n")
        guest.close_stdin()
        assert await read_all(guest, guest.stdout) == b"in\n1 2\n/tmp\n"
        assert await guest.wait() == ExitStatus(code=4)
        guest.close()
        guest.close()

    run(tmp_path, test)


def test_terminal(tmp_path: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        script = "stty size; : > /dev/tty; read x; stty size; kill -9 $$"
        guest = await runtime.join("ct-1", Command(("/bin/sh", "-c", script), terminal=(11, 22)))
        terminals.resize(guest.stdout, 33, 44)
        os.write(guest.stdin, b"\n")
        said = (await read_all(guest, guest.stdout)).decode()
        assert "33 44" in said
        assert await guest.wait() == ExitStatus(signal=9)
        guest.close()

    run(tmp_path, test)


AS_ORDINARY_USER = """
import asyncio, os
from squall.runtime.capabilities import set_caps
from squall.runtime.process_guest import ProcessGuest
from squall.runtime.spec import Command

async def story():
    guest = ProcessGuest.started(Command(("tty",), terminal=(1, 1)), dict(os.environ), "/")
    await guest.wait()
    print(os.read(guest.stdout, 100).decode())
    guest.close()

set_caps(0)
asyncio.run(story())
"""


def test_terminal_of_a_user_without_privileges() -> None:
    """As the agent is: /dev/pts/ptmx opens for nobody on most hosts, whom root's capabilities do not stop."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", AS_ORDINARY_USER],
        capture_output=True, text=True, env=environment, timeout=60 * SLOWNESS, check=False,
    )  # fmt: skip
    assert "/dev/pts/" in done.stdout, done.stderr


@pytest.mark.parametrize("call", ["openpty", "pipe"])
def test_nothing_left_to_talk_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def test(runtime: ProcessRuntime) -> None:
        monkeypatch.setattr(os, call, full)
        command = Command(("true",), terminal=(24, 80) if call == "openpty" else None)
        with pytest.raises(DriverError, match=r"no terminal or pipe left.*Too many open files"):
            await runtime.join("ct-1", command)
        monkeypatch.undo()

    run(tmp_path, test)


@pytest.fixture
def hangups_count() -> Iterator[None]:
    """Also where the tests run under nohup, which has programs ignore them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_count")
def test_close_hangs_up(tmp_path: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        guest = await runtime.join("ct-1", Command(("sleep", "600")))
        guest.close()
        assert await guest.wait() == ExitStatus(signal=1)

    run(tmp_path, test)


def test_end_of_the_container_ends_its_guests(tmp_path: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        guest = await runtime.join("ct-1", Command(("sleep", "600")))
        await runtime.kill("ct-1")
        await runtime.wait("ct-1")
        assert await guest.wait() == ExitStatus(signal=9)
        guest.close()

    run(tmp_path, test)


@pytest.mark.parametrize("terminal", [None, (24, 80)])
def test_no_such_program(tmp_path: Path, terminal: tuple[int, int] | None) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        command = Command(("/no/such",), terminal=terminal)
        if terminal is None:
            with pytest.raises(DriverError, match="cannot run '/no/such'"):
                await runtime.join("ct-1", command)
            return
        guest = await runtime.join("ct-1", command)
        assert b"cannot run '/no/such': No such file" in await read_all(guest, guest.stdout)
        assert (await guest.wait()).code == 1
        guest.close()

    run(tmp_path, test)


def test_no_such_container(tmp_path: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        with pytest.raises(DriverError, match="does not run"):
            await runtime.join("ct-2", Command(("true",)))

    run(tmp_path, test)


def test_double() -> None:
    async def story() -> None:
        runtime = DoubleRuntime()
        started = await runtime.start(spec("true"))
        guest = await runtime.join("ct-1", Command(("x",)))
        played = runtime.guests[0]
        os.write(played.theirs[1], b"said")
        assert os.read(guest.stdout, 100) == b"said"
        os.write(guest.stdin, b"heard")
        guest.close_stdin()
        assert os.read(played.theirs[0], 100) == b"heard"
        played.finish(ExitStatus(code=2))
        assert await guest.wait() == ExitStatus(code=2)
        guest.close()
        terminal = await runtime.join("ct-1", Command(("x",), terminal=(1, 1)))
        assert terminal.stdin == terminal.stdout
        assert terminal.stderr == -1
        terminal.close()
        assert runtime.guests[1].closed
        with pytest.raises(DriverError):
            await runtime.join("ct-2", Command(("x",)))
        await runtime.close()
        os.close(started.stdout)
        os.close(started.stderr)

    asyncio.run(story())
