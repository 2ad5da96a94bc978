"""The guard against leaks catches what it must, and blames nobody else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.house import leaks
from tests.house.leaks import Process, Snapshot, left_behind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARK = f"{leaks.MARK}=mine"
NOTHING = Snapshot(frozenset(), frozenset())
OTHER_SESSION = Process(7, "1", b"python -m pytest", b"")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    environ = {**os.environ, leaks.MARK: "mine"}
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the host has no /proc")
def test_a_marked_process_is_a_leak(sleeper: subprocess.Popen[bytes]) -> None:
    found = left_behind(NOTHING, leaks.snapshot(), (MARK,))
    assert [line for line in found if line.startswith(f"process {sleeper.pid}:")]
    sleeper.kill()
    sleeper.wait()
    assert not [
        line for line in left_behind(NOTHING, leaks.snapshot(), (MARK,)) if f"process {sleeper.pid}:" in line
    ]


def test_what_was_there_before_is_none() -> None:
    host = Snapshot(frozenset({Process(1, "1", b"squall node", b"")}), frozenset({"network link veth0"}))
    assert left_behind(host, host, (MARK,)) == []


def test_a_reused_pid_is_a_new_process() -> None:
    before = Snapshot(frozenset({Process(5, "1", b"squall node", b"")}), frozenset())
    after = Snapshot(frozenset({Process(5, "2", b"squall node", b"")}), frozenset())
    assert left_behind(before, after, (MARK,)) == ["process 5: squall node"]


@pytest.mark.parametrize(
    "thing", ["mount /run/squall/x (overlay)", "cgroup /sys/fs/cgroup/squall/c1", "network link veth0"]
)
def test_a_new_thing_is_a_leak_when_alone(thing: str) -> None:
    after = Snapshot(frozenset(), frozenset({thing}))
    assert left_behind(NOTHING, after, (MARK,)) == [thing]


def test_another_session_is_not_blamed_on_us() -> None:
    theirs = Process(8, "1", b"squall daemon", b"")
    ours = Process(9, "1", b"squall daemon", MARK.encode())
    after = Snapshot(frozenset({OTHER_SESSION, theirs, ours}), frozenset({"network link veth0"}))
    assert left_behind(NOTHING, after, (MARK,)) == ["process 9: squall daemon"]


def test_groups_are_found_while_others_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ("squall-a", "squall-a/b", "squall-a/b/c", "user/x/y/squall-d", "user/x/y/squall-d/e")
    for name in (*found, "user/x/y/z/squall-too-deep", "gone/squall-b", "other"):
        (tmp_path / name).mkdir(parents=True)
    scandir = os.scandir

    def scan(path: str) -> Iterator[os.DirEntry[str]]:
        if os.fspath(path).endswith("/gone"):
            raise OSError(errno.ENODEV, "No such device", path)  # what the kernel says of a removed group
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert leaks.cgroups(tmp_path) == {f"cgroup {tmp_path}/{name}" for name in found}


def test_python_helpers_are_no_leak() -> None:
    tracker = Process(9, "1", b"python -c from multiprocessing.resource_tracker import main", MARK.encode())
    assert left_behind(NOTHING, Snapshot(frozenset({tracker}), frozenset()), (MARK,)) == []
