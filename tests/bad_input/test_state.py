"""State directories that cannot be used, or that hold what an accident left."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall import exception
from squall.client import daemon_record
from squall.client.blocking import BlockingClient
from squall.client.connect import local
from squall.client.core import Credentials
from squall.client.daemon_record import DaemonRecord, Process
from tests.bad_input.conftest import Desk
from tests.house.troubleshooting import met

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount and take rights away")


@contextmanager
def mounted(where: Path, *arguments: str) -> Iterator[Path]:
    where.mkdir()
    subprocess.run(["mount", *arguments, str(where)], check=True, timeout=60)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True, timeout=60)


def test_start_and_stop_twice(desk: Desk) -> None:
    first = desk.ok("daemon", "start")
    assert desk.ok("daemon", "start") == first
    assert "A daemon runs already, with other options" in desk.refused("daemon", "start", "--gpus", "H100:8")
    desk.works()
    assert desk.ok("daemon", "stop") == "Stopped.\n"
    assert desk.ok("daemon", "stop") == "Not running.\n"
    desk.works()


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("/dev/null", "Cannot use the state directory /dev/null: it is no directory. Set SQUALL_STATE"),
        (
            "/proc/none",
            "Cannot use the state directory /proc/none: No such file or directory. Set SQUALL_STATE",
        ),
        ("/tmp/" + "long" * 30, "The path of the state directory is too long for sockets in it"),
    ],
)
def test_a_place_that_cannot_be(tmp_path: Path, state: str, told: str) -> None:
    desk = Desk(tmp_path / "desk", state)
    assert told in desk.refused("run", "good.py")
    assert told in desk.refused("daemon", "start")


@as_root
def test_a_read_only_state(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "ro", "squall-test") as disk:
        for state in (disk, disk / "state"):
            desk = Desk(tmp_path / "desk", str(state))
            line = desk.refused("run", "good.py")
            told = f"Cannot use the state directory {state}: Read-only file system."
            assert line == f"{told} Set SQUALL_STATE to another one."


@as_root
def test_the_state_of_another_user(tmp_path: Path) -> None:
    """Root without the right to pass over others' permissions is another user."""
    other = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 65534, 65534)
    desk = Desk(tmp_path / "desk", str(state))
    line = refused_as(other, desk)
    assert (
        line == f"Cannot use the state directory {state}: Permission denied. Set SQUALL_STATE to another one."
    )
    os.chown(state, 0, 0)
    try:
        desk.works()
        os.chown(state / "server", 65534, 65534)
        line = refused_as(other, desk)
        assert str(state) in line
        met(
            line,
            "PermissionDeniedError: The server in ... belongs to another user: set SQUALL_STATE "
            "to one of your own.",
        )
    finally:
        desk.stop()


def refused_as(other: tuple[str, ...], desk: Desk) -> str:
    done = subprocess.run(
        [*other, sys.executable, "-m", "squall", "run", "good.py"],
        cwd=desk.folder, env=desk.environ(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    return done.stderr.removeprefix("squall: ").rstrip("\n")


def test_the_record_of_a_daemon_whose_pid_is_another_process(desk: Desk) -> None:
    """That process is never taken for ours: not waited for, not killed."""
    mine = Process("daemon", os.getpid(), daemon_record.start_time(os.getpid()) - 1)
    Path(desk.state).mkdir()
    record = DaemonRecord(mine, 1, "0.1", "process", "/nowhere")
    daemon_record.write(desk.state, record)
    daemon_record.write_children(desk.state, [replace(mine, name="server")])
    assert desk.ok("daemon", "stop") == "Not running.\n"
    said = desk.squall("run", "good.py")
    assert (said.out, said.code) == ("result 2\n", 0)
    assert "squall: no isolation between functions: it was chosen\n" in said.err  # once, by who starts it
    assert desk.squall("run", "good.py").err == ""
    found = daemon_record.read(desk.state)
    assert found is not None
    assert found.process.pid != os.getpid()


@pytest.mark.parametrize("garbage", [b"{", b'{"process": 1}'])
def test_a_record_that_makes_no_sense(desk: Desk, garbage: bytes) -> None:
    Path(desk.state).mkdir()
    for path in (daemon_record.record_path(desk.state), daemon_record.children_path(desk.state)):
        Path(path).write_bytes(garbage)
    desk.works()


def spoil_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : 2 * 4096] = os.urandom(4096)
    path.write_bytes(data)


def newer_schema(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 999")
    database.close()


@pytest.mark.parametrize(
    ("spoil", "told", "to_do"),
    [
        (spoil_page, "is damaged (", "restore a backup, or move it away to start afresh"),
        (newer_schema, "was written by a newer Squall (schema 999, ", "upgrade Squall, or set SQUALL_STATE"),
    ],
)
def test_a_database_that_cannot_be_used(desk: Desk, spoil: object, told: str, to_do: str) -> None:
    desk.works()
    desk.ok("daemon", "stop")
    path = Path(desk.state, "server", "db.sqlite")
    assert callable(spoil)
    spoil(path)
    before = path.read_bytes()
    line = desk.refused("run", "good.py")
    assert line.startswith("The embedded server does not start: the server ended: ")
    assert str(path) in line
    assert told in line
    assert to_do in line
    assert path.read_bytes() == before
    assert desk.ok("daemon", "stop") == "Not running.\n"
    path.rename(path.with_name("aside"))
    desk.works()


#: Its one container starts before the disk fills and ends after: no other's files come and go meanwhile.
LONE = """
    import squall
    app = squall.App("lone")

    @app.function(max_containers=1, scaledown_window=1200)
    def increment(x: int) -> int:
        return x + 1
    """


@as_root
@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="needs mkfs.ext4 (e2fsprogs)")
def test_a_disk_that_fills_while_calls_are_spawned(tmp_path: Path) -> None:
    """A spawn is acknowledged and kept, or refused; the server lives on, and works when space is free."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(96 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, timeout=60)
    with mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk:
        desk = Desk(tmp_path / "desk", str(disk / "state"))
        try:
            desk.ok("deploy", desk.file("lone.py", LONE))
            fill_while_spawning(desk, disk)
            desk.works()
        finally:
            desk.stop()


def fill_while_spawning(desk: Desk, disk: Path) -> None:
    server = desk.child("server")
    client = BlockingClient(local(desk.state, start=False), Credentials())
    client.open(20)
    increment = squall.Function.from_name("lone", "increment", client=client)
    kept = [increment.spawn(0)]
    assert kept[0].get(timeout=60) == 1
    filler = disk / "filler"
    fill(filler, leave=256 << 10)
    line = spawn_until_refused(increment, kept)
    assert "\n" not in line
    met(
        line,
        "ServiceError: the disk that holds ... is full: free some space; nothing that was "
        "acknowledged is lost",
    )
    stuff(filler)
    assert "full: free some space" in desk.refused("run", "good.py")
    filler.unlink()
    assert [call.get(timeout=60) for call in kept] == list(range(1, len(kept) + 1))
    assert increment.spawn(41).get(timeout=60) == 42
    assert server.alive()
    client.close()


def spawn_until_refused(function: Any, kept: list[Any]) -> str:
    """`kept` gets the calls that were acknowledged, which add one to 1, 2, ...; the error's text."""
    for number in range(len(kept), 10_000):
        try:
            kept.append(function.spawn(number))
        except exception.Error as error:  # noqa: PERF203 - the first refusal is the end
            return str(error)
    raise AssertionError("the disk was not full")


def fill(path: Path, leave: int) -> None:
    with path.open("wb") as file:
        free = os.statvfs(path).f_bavail * os.statvfs(path).f_frsize
        os.posix_fallocate(file.fileno(), 0, free - leave)


def stuff(path: Path) -> None:
    """Take the last of the space."""
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            """Until the error."""
