"""The launcher is killed and another one goes on: containers do not notice, and nothing is forgotten."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from squall.runtime.driver import DriverError, LostError
from squall.runtime.launcher.config import Config
from squall.runtime.spec import Mount
from tests.runtime.box import UID_BASE, Box, read_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squall.runtime.driver import Started

pytestmark = pytest.mark.root

#: Echoes what it hears, until it hears the code to exit with.
ECHO = """
import socket, sys
with socket.socket(socket.AF_UNIX) as door:
    door.bind("/data/door")
    door.listen()
    print("up", flush=True)
    while True:
        visitor, _ = door.accept()
        with visitor:
            word = visitor.recv(100).decode()
            visitor.send(b"heard " + word.encode())
        if word.isdigit():
            print("leaving", flush=True)
            sys.exit(int(word))
"""


class Echo:
    """A container that answers at a socket in a folder of its own."""

    def __init__(self, box: Box, name: str, **fields: object) -> None:
        self._folder = box.layer(name)
        mount = Mount(str(self._folder), "/data", read_only=False)
        self.started: Started = box.start_python(ECHO, mounts=(mount,), **fields)
        assert read_line(self.started.stdout) == "up"

    def say(self, word: str) -> str:
        with socket.socket(socket.AF_UNIX) as visitor:
            directory = os.open(self._folder, os.O_PATH)
            visitor.connect(f"/proc/self/fd/{directory}/door")
            os.close(directory)
            visitor.send(word.encode())
            return visitor.recv(100).decode()


@pytest.fixture
def net_box(namespaces: Path, request: pytest.FixtureRequest) -> Iterator[Box]:
    """A launcher of one test's own, with network where the host has one."""
    box = Box(namespaces / request.node.name[:60])
    yield box
    if not box.loop.is_closed():
        box.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def links(box: Box) -> list[str]:
    config = Config(box.state, box.socket, 0, (), ())
    return sorted(name for _, name in socket.if_nameindex() if name.startswith(config.network.link_prefix))


def close(*started: Started) -> None:
    for one in started:
        os.close(one.stdout)
        os.close(one.stderr)


def test_containers_go_on_and_their_ends_are_told(net_box: Box) -> None:
    box = net_box
    network = "none" if any("no network" in loss for loss in box.runtime.losses) else "egress"
    echo = Echo(box, "echo", network=network)
    meanwhile = Echo(box, "meanwhile", workspace="other", uid_base=UID_BASE + 65_536)
    before = box.start("/bin/sh", "-c", "echo last words; exit 6")
    until(lambda: not os.path.exists(f"/proc/{before.pid}"))
    address = f"/proc/{echo.started.pid}/root/etc/hosts"
    hosts, links_before = Path(address).read_text(), links(box)
    assert len(links_before) == (network == "egress")

    box.kill_launcher()
    assert echo.say("alone") == "heard alone"
    assert meanwhile.say("5") == "heard 5"
    until(lambda: not os.path.exists(f"/proc/{meanwhile.started.pid}"))
    box.boot_launcher()

    assert box.end(meanwhile.started).status.code == 5
    last = box.end(before)
    assert (last.status.code, last.out) == (6, "last words\n")
    assert echo.say("again") == "heard again"
    assert links(box) == links_before
    assert box.groups(meanwhile.started.id) == []
    if box.groups(echo.started.id):
        assert (box.do(box.runtime.usage(echo.started.id)).memory_bytes or 0) > 0
    assert box.sh("echo works").out == "works\n"  # in the same zone
    assert echo.say("7") == "heard 7"
    ended = box.end(echo.started)
    assert (ended.status.code, ended.status.by_us, ended.out) == (7, False, "leaving\n")
    assert box.groups(echo.started.id) == []
    assert box.sh("cat /etc/hosts", network=network).out == hosts, "its network waits for the next one"
    assert links(box) == links_before
    box.close()
    assert [p.name for p in box.state.iterdir()] == ["lock"]
    assert links(box) == []


def test_kills_reach_what_an_earlier_launcher_started(own_box: Box) -> None:
    box = own_box
    stubborn = box.start(
        "/bin/sh",
        "-c",
        "trap 'echo told' TERM; echo up; while :; do sleep 0.01; [ -e /tmp/go ] && exit 3; done",
    )
    plain = box.start("sleep", "600")
    assert read_line(stubborn.stdout) == "up"
    box.do(box.runtime.kill(stubborn.id, signal.SIGTERM))
    assert read_line(stubborn.stdout) == "told"
    box.kill_launcher()
    box.boot_launcher()
    box.do(box.runtime.kill(plain.id))
    status = box.end(plain).status
    assert (status.signal, status.by_us) == (signal.SIGKILL, True)
    Path(f"/proc/{stubborn.pid}/root/tmp/go").touch()
    status = box.end(stubborn).status
    assert (status.code, status.by_us) == (3, True), "who was told to end is known"


def test_a_new_agent_finds_them_too(own_box: Box) -> None:
    box = own_box
    echo = Echo(box, "found")
    box.runtime.disconnect()
    close(echo.started)
    for _ in range(2):  # also what was adopted once outlives its launcher
        box.kill_launcher()
        box.boot()
        (adopted,) = box.do(box.runtime.adopt())
        assert (adopted.id, adopted.pid) == (echo.started.id, echo.started.pid)
        close(adopted)
        box.runtime.disconnect()
    box.runtime = box.connect()
    (adopted,) = box.do(box.runtime.adopt())
    echo.say("4")
    result = box.end(adopted)
    assert (result.status.code, result.out) == (4, "leaving\n")
    assert box.do(box.runtime.adopt()) == []


def test_what_a_launcher_had_asked_its_zone_confuses_no_other(own_box: Box) -> None:
    """It dies while the zone makes a container; the zone's answer comes to the next one."""
    box = own_box
    running = box.start("sleep", "600")
    zone = _parent(_parent(running.pid))
    spec = box.spec("sleep", "600")
    os.kill(zone, signal.SIGSTOP)
    start = box.loop.create_task(box.runtime.start(spec))
    until(lambda: (box.do(_turn()), (box.state / "scratch" / spec.id / "upper").exists())[1])
    until(lambda: _waits_for_zone(box.process.pid))
    box.kill_launcher()
    os.kill(zone, signal.SIGCONT)
    with pytest.raises(DriverError, match="connection to the launcher is closed"):
        box.do(_result(start))
    box.boot_launcher()
    assert box.sh("echo works").out == "works\n"
    assert box.do(box.runtime.start(spec)).id == spec.id, "nothing of that start is left"
    for name in (running.id, spec.id):
        box.do(box.runtime.kill(name))
        box.do(box.runtime.wait(name))
    close(running)


def test_a_start_that_dies_with_its_zone_says_nothing_of_the_container(own_box: Box) -> None:
    box = own_box
    running = box.start("sleep", "600")
    zone = _parent(_parent(running.pid))
    spec = box.spec("sleep", "600")
    os.kill(zone, signal.SIGSTOP)
    start = box.loop.create_task(box.runtime.start(spec))
    until(lambda: (box.do(_turn()), (box.state / "scratch" / spec.id / "upper").exists())[1])
    until(lambda: _waits_for_zone(box.process.pid))
    os.kill(zone, signal.SIGKILL)
    with pytest.raises(LostError, match="zone has died"):
        box.do(_result(start))
    box.end(running)
    assert box.sh("echo works").out == "works\n"


def test_a_killed_keeper_is_replaced(own_box: Box) -> None:
    box = own_box
    first = Echo(box, "first")
    os.kill(box.keeper(), signal.SIGKILL)
    second = Echo(box, "second")
    box.kill_launcher()
    box.boot_launcher()
    for echo in (first, second):
        assert echo.say("9") == "heard 9"
        assert box.end(echo.started).status.code == 9


def test_a_keeper_without_launchers_ends_and_lets_go(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from squall.runtime.launcher import keeper
keeper.PATIENCE_S = 0.5
path = Path({str(tmp_path)!r}, "keeper")
inode = lambda fd: os.fstat(fd).st_ino
read, write = os.pipe()
first = keeper.Keeper(path)
assert first.take_all() == {{}}
first.keep("a", {{"n": 1}}, {{"read": read}})
first.keep("b", {{"n": 2}}, {{"write": write}})
first.keep("a", {{"n": 3}}, {{"read": read, "again": read}})
first.drop("b")
expected = inode(read)
os.close(write)
first._connection.close()  # as if it were killed
second = keeper.Keeper(path)
kept = second.take_all()
assert list(kept) == ["a"] and kept["a"].value == {{"n": 3}}, kept
assert [inode(kept["a"].descriptors[name]) for name in ("read", "again")] == [expected] * 2
read2, write2 = os.pipe()
second.keep("c", {{}}, {{"write": write2}})
os.close(write2)
second._connection.close()
assert os.read(read2, 1) == b""  # nobody came: it has ended, and what it had is closed
assert keeper.Keeper(path).take_all() == {{}}
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "done\n", done.stderr


async def _turn() -> None:
    return


async def _result(task: object) -> object:
    return await task  # type: ignore[misc]


def _waits_for_zone(pid: int) -> bool:
    """Whether the launcher is in poll or recvmsg (on x86-64 or aarch64), and not in its loop's epoll."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in {"7", "47", "73", "212"}


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("PPid:"))
