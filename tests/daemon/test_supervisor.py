"""The supervisor with small programs in the place of server, launcher and agent."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from squall.client import daemon_record
from squall.daemon import supervisor
from squall.daemon.child import Child, Program
from tests.house.source import ROOT, SRC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the daemon needs Linux")

#: A program of the supervisor's: says that it runs, listens if it is told where, and says how it ends.
PROGRAM = """
import os, signal, socket, sys, time
name, path, mode = sys.argv[1:]
log = open(os.environ["EVENTS"], "a", buffering=1)
def end(*_):
    log.write(f"{name} ends\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else end)
if mode == "fail":
    sys.exit("out of luck")
if path:
    server = socket.socket(socket.AF_UNIX); server.bind(path); server.listen()
if mode == "orphan" and os.fork() == 0:
    os.setsid(); log.write(f"orphan {os.getpid()}\\n"); time.sleep(600)
log.write(f"{name} {os.getpid()}\\n")
if mode == "refused":
    print("squall node: this token is for a client", file=sys.stderr); sys.exit(77)
if mode == "brief":
    time.sleep(0.2); sys.exit("had enough")
time.sleep(600)
"""

#: The supervisor itself, with these programs: name, has a socket, mode.
RUN = """
import json, os, sys
from squall.daemon.child import Program
from squall.daemon.supervisor import Supervisor
from squall.daemon import host
from squall.exception import Error
state, programs, idle, busy = json.loads(sys.argv[1])
host.settle()
made = []
for name, mode in programs:
    path = f"{state}/{name}.sock" if name != "node" else ""
    command = (sys.executable, f"{state}/program.py", name, path, mode)
    made.append(Program(name, command, f"{state}/logs/{name}.log", dict(os.environ), path, True, 1.0))
try:
    Supervisor(state, made, idle, lambda: os.path.exists(busy)).run()
except Error as error:
    sys.exit(str(error))
"""


class Host:
    """A state directory, and a supervisor over it."""

    def __init__(self, state: Path) -> None:
        self.state = str(state)
        self.events_file = state / "events"
        self.busy_file = state / "busy"
        (state / "logs").mkdir()
        (state / "program.py").write_text(PROGRAM)
        self.process: subprocess.Popen[str] | None = None

    def start(self, *programs: tuple[str, str], idle: float = 0.0) -> subprocess.Popen[str]:
        argument = json.dumps([self.state, programs, idle, str(self.busy_file)])
        environ = {**os.environ, "EVENTS": str(self.events_file), "PYTHONPATH": f"{SRC}:{ROOT}"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, argument], env=environ, stderr=subprocess.PIPE, text=True
        )
        return self.process

    def events(self) -> list[str]:
        return self.events_file.read_text().splitlines() if self.events_file.exists() else []

    def pids(self, name: str) -> list[int]:
        found = [line.split()[1] for line in self.events() if line.startswith(f"{name} ")]
        return [int(word) for word in found if word.isdecimal()]

    def finish(self, expected: int = 0) -> str:
        """Wait for its end; what it said."""
        assert self.process is not None
        _, said = self.process.communicate(timeout=20)
        assert self.process.returncode == expected, said
        return said


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Host]:
    machine = Host(tmp_path)
    yield machine
    if machine.process is not None and machine.process.poll() is None:
        machine.process.terminate()
        machine.process.communicate(timeout=20)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    return daemon_record.start_time(pid) != 0


ALL = (("launcher", "good"), ("server", "good"), ("node", "good"))


def test_programs_start_in_order_and_end_server_first_launcher_last(machine: Host) -> None:
    process = machine.start(*ALL)
    until(lambda: machine.pids("node"))
    assert [e.split()[0] for e in machine.events()] == ["launcher", "server", "node"]
    recorded = {(c.name, c.pid) for c in daemon_record.read_children(machine.state)}
    assert recorded == {(name, machine.pids(name)[0]) for name, _ in ALL}
    process.terminate()
    machine.finish()
    assert machine.events()[3:] == ["server ends", "node ends", "launcher ends"]
    assert daemon_record.read_children(machine.state) == []


class Still:
    """A program that runs, and nothing happens."""

    due = 0.0
    refused = False
    process = SimpleNamespace(pid=1)

    def died(self, _now: float) -> bool:
        return False


class Hours:
    """In the place of signals: each wait lasts as long as it may, and that of the tenth ends it."""

    stop = drain = False

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def wait(self, timeout: float) -> None:
        self.waits.append(timeout)
        self.now += min(max(timeout, 0.0), 3600.0)
        self.stop = len(self.waits) == 10


@pytest.mark.parametrize(("idle", "looks"), [(0.0, math.inf), (100.0, 25.0), (3600.0, 60.0)])
def test_it_sleeps_while_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idle: float, looks: float
) -> None:
    """Until it is time to look whether anybody needs it, which it never is without a limit."""
    hours = Hours()
    monkeypatch.setattr(supervisor, "Signals", lambda: hours)
    monkeypatch.setattr(time, "monotonic", lambda: hours.now)
    daemon = supervisor.Supervisor(str(tmp_path), [], idle, lambda: True)
    daemon._children = [Still()]  # type: ignore[list-item]
    monkeypatch.setattr(daemon, "_orphans", list)
    daemon._watch()
    assert hours.waits == [looks] * 10


def test_a_program_that_dies_is_started_again(machine: Host) -> None:
    process = machine.start(*ALL)
    until(lambda: machine.pids("node"))
    os.kill(machine.pids("server")[0], signal.SIGKILL)
    until(lambda: len(machine.pids("server")) == 2)
    until(
        lambda: (
            ("server", machine.pids("server")[1])
            in {(c.name, c.pid) for c in daemon_record.read_children(machine.state)}
        )
    )
    assert len(machine.pids("launcher")) == len(machine.pids("node")) == 1
    process.terminate()
    assert "the server ended and starts again" in machine.finish()


def test_pauses_between_starts_grow(machine: Host) -> None:
    process = machine.start(("server", "good"), ("node", "brief"))
    until(lambda: len(machine.pids("node")) == 3)
    process.terminate()
    said = machine.finish()
    assert "the node ended and starts again: had enough" in said


def test_one_that_cannot_begin_ends_all_with_its_last_words(machine: Host) -> None:
    machine.start(("launcher", "good"), ("server", "fail"), ("node", "good"))
    assert "the server ended: out of luck" in machine.finish(1)
    assert [e.split()[0] for e in machine.events()] == ["launcher", "launcher"]
    assert machine.events()[1] == "launcher ends"


def test_a_node_that_is_refused_ends_all(machine: Host) -> None:
    machine.start(("launcher", "good"), ("node", "refused"))
    assert "the server refuses this node: this token is for a client" in machine.finish(1)
    assert len(machine.pids("node")) == 1
    assert machine.events()[-1] == "launcher ends"


def test_a_stubborn_program_is_killed(machine: Host) -> None:
    process = machine.start(("server", "stubborn"), ("node", "good"))
    until(lambda: machine.pids("node"))
    process.terminate()
    machine.finish()
    assert not alive(machine.pids("server")[0])


def test_what_a_dead_agent_left_is_ended_with_the_daemon(machine: Host) -> None:
    process = machine.start(("server", "good"), ("node", "orphan"))
    until(lambda: machine.pids("node") and machine.pids("orphan"))
    os.kill(machine.pids("node")[0], signal.SIGKILL)
    until(lambda: len(machine.pids("node")) == 2)
    assert alive(machine.pids("orphan")[0])  # a container goes on
    process.terminate()
    machine.finish()
    assert not any(alive(pid) for pid in machine.pids("orphan"))


def test_it_ends_when_nobody_needs_it(machine: Host) -> None:
    machine.busy_file.touch()
    process = machine.start(*ALL, idle=0.4)
    until(lambda: machine.pids("node"))
    time.sleep(1.0)
    assert process.poll() is None
    machine.busy_file.unlink()
    assert "nobody needs it" in machine.finish()
    assert machine.events()[-1] == "launcher ends"


@pytest.mark.parametrize("recorded", [True, False])
def test_a_program_runs_only_once_it_is_recorded(tmp_path: Path, recorded: bool) -> None:
    ran = tmp_path / "ran"
    child = Child(Program("node", ("/usr/bin/touch", str(ran)), str(tmp_path / "log")))
    child.start(0.0)
    assert child.process is not None
    assert child.process.stdin is not None
    if recorded:
        child.go()
    else:
        child.process.stdin.close()  # as the kernel does when the supervisor is killed
    child.process.wait(10)
    assert ran.exists() == recorded
