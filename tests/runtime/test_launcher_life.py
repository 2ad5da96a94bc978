"""Who may talk to the launcher, and what happens when it or the agent dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from squall.runtime.driver import DriverError
from squall.runtime.launcher import messages
from squall.runtime.launcher.start import start_launcher
from squall.runtime.spec import ContainerSpec
from tests.house.slowness import SLOWNESS
from tests.runtime.box import UID_BASE, read_line

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.box import Box

pytestmark = pytest.mark.root

LOOP = "echo up; while :; do read x < /tmp/pipe || sleep 0.01; done"


def test_agent_that_comes_back_finds_its_containers(own_box: Box) -> None:
    box = own_box
    running = box.start("/bin/sh", "-c", "echo first; sleep 600")
    ended = box.start("/bin/sh", "-c", "echo last words; exit 6")
    read_line(running.stdout)
    _wait_ended(box, ended.pid)
    for fd in (running.stdout, running.stderr, ended.stdout, ended.stderr):
        os.close(fd)
    box.runtime.disconnect()

    box.runtime = box.connect()
    adopted = {s.id: s for s in box.do(box.runtime.adopt())}
    assert adopted.keys() == {running.id, ended.id}
    assert adopted[running.id].pid == running.pid
    result = box.end(adopted[ended.id])
    assert (result.status.code, result.out) == (6, "last words\n")
    box.do(box.runtime.kill(running.id))
    assert box.end(adopted[running.id]).status.signal == signal.SIGKILL
    assert box.do(box.runtime.adopt()) == []


def test_start_that_is_cancelled_leaves_nothing(own_box: Box) -> None:
    box = own_box
    spec = box.spec("sleep", "600")

    async def cancel() -> None:
        start = asyncio.ensure_future(box.runtime.start(spec))
        await asyncio.sleep(0)  # the request is sent
        start.cancel()
        with suppress(asyncio.CancelledError):
            await start

    box.do(cancel())
    deadline = time.monotonic() + 30 * SLOWNESS
    while True:
        with suppress(DriverError):  # until the id is free again
            started = box.do(box.runtime.start(spec))
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert box.do(box.runtime.adopt()) == []
    box.do(box.runtime.kill(spec.id))
    assert box.end(started).status.by_us


def test_idle_zone_ends_and_its_user_namespace_stays(namespaces: Path, tmp_path: Path) -> None:
    code = f"""
import fcntl, os, time
from pathlib import Path
from squall.runtime import seccomp
from squall.runtime.launcher.keeper import Keeper
from squall.runtime.launcher.workspaces import ZONE_IDLE_S, Means, Workspace
records = Path({str(tmp_path / "records")!r})
records.mkdir()
keeper = Keeper(Path({str(tmp_path / "keeper")!r}))
workspace = Workspace("w", {UID_BASE}, Means(records, keeper, seccomp.container_filter()))
owner = lambda fd: os.fstat(fcntl.ioctl(fd, 0xB701)).st_ino  # NS_GET_USERNS
first = owner(workspace.make_network())
pid = workspace.zone.pid
late = time.monotonic() + ZONE_IDLE_S + 1
workspace.end_idle_zone(time.monotonic())
assert workspace.zone is not None and len(list(records.iterdir())) == 1
workspace.enter("c")
workspace.end_idle_zone(late)
assert workspace.zone is not None
workspace.leave("c")
workspace.end_idle_zone(late + 1)
assert workspace.zone is None and not os.path.exists(f"/proc/{{pid}}") and not list(records.iterdir())
assert owner(workspace.make_network()) == first
workspace.end_zone()
keeper.end()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


def test_two_drivers_do_not_disturb_each_other(own_box: Box) -> None:
    other = own_box.connect()
    started = own_box.start("/bin/sh", "-c", "exit 2")
    assert own_box.end(started).status.code == 2
    other.disconnect()
    assert own_box.sh("exit 3").status.code == 3


def test_waiter_learns_that_the_launcher_died_and_none_came(own_box: Box) -> None:
    started = own_box.start("sleep", "600")
    own_box.runtime.patience = 0.2
    own_box.loop.call_later(0.05, own_box.process.kill)
    with pytest.raises(DriverError, match="connection to the launcher is closed"):
        own_box.do(own_box.runtime.wait(started.id))
    with pytest.raises(DriverError, match="connection to the launcher is closed"):
        own_box.do(own_box.runtime.usage(started.id))
    own_box.process.wait()
    first = own_box.runtime
    own_box.boot()
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{started.pid}"):  # until it is back and puts down what it had given up
        assert time.monotonic() < deadline
        own_box.do(asyncio.sleep(0.01))
    own_box.do(first.usage(started.id))
    first.disconnect()


def test_what_nobody_keeps_is_cleared(own_box: Box) -> None:
    """The launcher and its keeper are killed: containers go on, and the next launcher ends them."""
    box = own_box
    started = box.start("/bin/sh", "-c", "echo up; read x; echo went on; exec sleep 600", network="none")
    assert read_line(started.stdout) == "up"
    second = box.start("sleep", "600", workspace="other", uid_base=UID_BASE + 65_536)
    _kill_both(box)
    assert read_line(started.stdout) == "went on"  # stdin is /dev/null: it went on by itself
    pids = [started.pid, second.pid]
    assert all(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert len(list((box.state / "zones").glob("*.json"))) == 2

    _reboot(box)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert list((box.state / "zones").iterdir()) == []
    assert box.do(box.runtime.adopt()) == []
    assert box.sh("echo works").out == "works\n"
    for fd in (started.stdout, started.stderr, second.stdout, second.stderr):
        os.close(fd)


def test_zone_without_launcher_and_keeper_ends_with_its_last_container(own_box: Box) -> None:
    box = own_box
    started = box.start("sleep", "600")
    zone = _parent(_parent(started.pid))
    _kill_both(box)
    assert os.path.exists(f"/proc/{zone}")
    os.kill(started.pid, signal.SIGKILL)
    _wait_ended(box, zone)
    _reboot(box)


def test_killed_zone_takes_its_containers_and_a_new_one_is_made(own_box: Box) -> None:
    box = own_box
    started = box.start("sleep", "600")
    os.kill(_parent(_parent(started.pid)), signal.SIGKILL)
    status = box.end(started).status
    assert (status.signal, status.by_us) == (signal.SIGKILL, False)
    assert box.sh("echo works").out == "works\n"


def test_container_killed_from_outside_is_not_by_us(own_box: Box) -> None:
    started = own_box.start("sleep", "600")
    os.kill(started.pid, signal.SIGKILL)
    status = own_box.end(started).status
    assert (status.signal, status.by_us, status.oom) == (signal.SIGKILL, False, False)


@pytest.mark.parametrize("way", ["close", "SIGTERM"])
def test_end_leaves_nothing(own_box: Box, way: str) -> None:
    box = own_box
    started = [box.start("sleep", "600") for _ in range(3)]
    box.sh("mkdir -p /a/b/c; exit 0")
    if way == "close":
        box.close()
    else:
        box.process.terminate()
        box.process.wait(30)
        box.abandon()
    assert not any(os.path.exists(f"/proc/{s.pid}") for s in started)
    assert [p.name for p in box.state.iterdir()] == ["lock"]
    assert not box.socket.exists()
    assert box.groups() == []
    for s in started:
        os.close(s.stdout)
        os.close(s.stderr)


def test_state_directory_has_one_launcher(own_box: Box, tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="another launcher works in"):
        start_launcher(own_box.state, tmp_path / "s", owner_uid=0)


def test_socket_is_its_owners(own_box: Box) -> None:
    info = own_box.socket.stat()
    assert (info.st_uid, info.st_mode & 0o777) == (0, 0o600)
    code = (
        "import socket\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "try: s.connect('launcher.sock'); s.send(b'{}'); print(s.recv(9))\n"
        "except OSError as e: print(e.strerror)"
    )
    os.chmod(own_box.socket, 0o666)
    own_box.directory.chmod(0o711)  # the other user is there already, and need not pass what is above
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "python3", "-c", code],
        cwd=own_box.directory,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
        check=False,
    )
    if done.returncode == 127:
        pytest.skip("needs a python3 that every user may run")
    assert done.stdout.strip() in {"b''", "Connection reset by peer", "Broken pipe"}, done


@pytest.mark.parametrize(
    "packet",
    [b"no json", b"[]", b"{}", b'{"id":1,"op":"start"}', b'{"op":[]}', b'{"id":1,"op":"kill","signal":"x"}'],
)
def test_nonsense_is_refused(own_box: Box, packet: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        _connect(connection, own_box.socket)
        connection.settimeout(20 * SLOWNESS)
        connection.send(packet)
        answer = connection.recv(4096)
        assert answer == b"" or b'"error"' in answer
    assert own_box.sh("echo works").out == "works\n"


def test_descriptors_of_strangers_are_closed(own_box: Box) -> None:
    before = len(os.listdir(f"/proc/{own_box.process.pid}/fd"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        _connect(connection, own_box.socket)
        connection.settimeout(20 * SLOWNESS)
        for _ in range(20):
            messages.send(connection, {"id": 1, "op": "hello"}, [0, 1, 2])
            messages.receive(connection)
    own_box.do(own_box.runtime.usage("nobody"))
    own_box.do(own_box.runtime.usage("nobody"))
    assert len(os.listdir(f"/proc/{own_box.process.pid}/fd")) <= before + 1


def test_descriptors_do_not_pile_up(own_box: Box) -> None:
    own_box.sh("true")
    counts = []
    for _ in range(2):
        for _ in range(5):
            own_box.sh("true")
        with pytest.raises(DriverError):
            own_box.run("/not/there")
        own_box.do(own_box.runtime.adopt())
        counts.append(len(os.listdir(f"/proc/{own_box.process.pid}/fd")))
    assert counts[1] <= counts[0] + 4  # deletions may be under way


def test_workspace_keeps_its_range(own_box: Box) -> None:
    own_box.sh("true")
    with pytest.raises(DriverError, match="belongs to another workspace"):
        own_box.sh("true", workspace="thief")
    with pytest.raises(DriverError, match="workspace tests has uid_base"):
        own_box.sh("true", uid_base=UID_BASE + 65_536)


def test_spec_too_large_is_one_line(own_box: Box) -> None:
    with pytest.raises(DriverError, match="shorten argv or env"):
        own_box.sh("true", env={"X": "x" * 200_000})


def test_not_root_is_one_line(tmp_path: Path) -> None:
    spec = ContainerSpec(id="x", workspace="w", uid_base=UID_BASE, argv=("true",))
    assert spec.to_json()["argv"] == ("true",)
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (
        done.stdout == "error: the launcher needs root; start the node as root, or use the process driver\n"
    )


@pytest.mark.parametrize(
    "option",
    [("--addresses", "10.0.0.0/33"), ("--addresses", "fd00::/64"), ("--refuse", "-x"), ("--refuse", "all")],
)
def test_networks_that_are_none_are_one_line(tmp_path: Path, option: tuple[str, str]) -> None:
    given = ["--state", str(tmp_path), "--socket", "/nowhere", "--owner-uid", "0", "=".join(option)]
    command = [sys.executable, "-m", "squall.runtime.launcher", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (2, "", 1)
    assert done.stdout.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


_AS_NOBODY = """
import os, sys
from squall.runtime.launcher import __main__ as launcher
os.setresuid(65534, 65534, 65534)
sys.argv = ["x", "--state", sys.argv[1], "--socket", "/nowhere", "--owner-uid", "0"]
sys.exit(launcher.main())
"""


def _connect(connection: socket.socket, path: Path) -> None:
    with messages.reachable(path) as name:
        connection.connect(name)


def _reboot(box: Box) -> None:
    box.process.wait()
    box.runtime.disconnect()
    box.boot()


def _kill_both(box: Box) -> None:
    box.process.kill()
    box.process.wait()
    keeper = box.keeper()
    os.kill(keeper, signal.SIGKILL)
    _wait_ended(box, keeper)


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("PPid:"))


def _wait_ended(box: Box, pid: int) -> None:
    deadline = time.monotonic() + 30 * SLOWNESS
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
