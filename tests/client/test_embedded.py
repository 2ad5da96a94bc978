"""Starting a daemon: one for all, found by all. A small program stands in its place."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from squall.client import daemon_record, embedded, service
from squall.exception import ConnectionError as CannotReach
from squall.exception import InvalidError, VersionError
from squall.wire.values import PROTOCOL
from tests.house.source import SRC

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded server needs Linux")

DAEMON = """
import os, signal, socket, sys, time
sys.path.insert(0, {src!r})
from squall.client import daemon_record as d, embedded
state = sys.argv[sys.argv.index("--state") + 1]
if os.fork():
    os._exit(0)
open(state + "/starts", "a").write("x")
mode = open(state + "/mode").read()
if mode == "fail":
    sys.exit("squall: the port is in use.")
protocol = int(mode)
own = d.Process("daemon", os.getpid(), d.start_time(os.getpid()))
d.write(state, d.DaemonRecord(own, protocol, "9.9", "process", embedded.socket_path(state)))
time.sleep(0.1)
os.makedirs(state + "/server", exist_ok=True)
path = embedded.socket_path(state)
if os.path.exists(path): os.unlink(path)
server = socket.socket(socket.AF_UNIX); server.bind(path); server.listen()
open(state + "/facts", "w").write(repr((os.getcwd(), os.getsid(0) == os.getppid(), dict(os.environ))))
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
while True: time.sleep(60)
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path / "state"
    folder.mkdir()
    script = tmp_path / "daemon.py"
    script.write_text(DAEMON.format(src=str(SRC)))
    (folder / "mode").write_text(str(PROTOCOL))
    monkeypatch.setattr(embedded, "_command", lambda: [sys.executable, str(script)])
    yield str(folder)
    embedded.stop(str(folder))


def starts(state: str) -> int:
    path = os.path.join(state, "starts")
    return os.path.getsize(path) if os.path.exists(path) else 0


def mode(state: str, text: str) -> None:
    with open(os.path.join(state, "mode"), "w", encoding="utf-8") as file:
        file.write(text)


def test_many_first_users_start_one_daemon(state: str) -> None:
    errors: list[BaseException] = []

    def first_use() -> None:
        try:
            embedded.ensure(state)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=first_use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert starts(state) == 1
    embedded.ensure(state)
    assert starts(state) == 1


def test_a_service_is_waited_for_and_not_replaced(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "manager", lambda _state, _environ: "systemctl")
    monkeypatch.setattr(embedded, "SERVICE_S", 0.1)
    with pytest.raises(CannotReach, match=r"is a service here.*`systemctl start squall\.service`"):
        embedded.ensure(state)
    assert starts(state) == 0
    monkeypatch.undo()


def test_it_is_detached_from_its_caller(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "of the caller")
    embedded.ensure(state)
    record = daemon_record.read(state)
    assert record is not None
    assert os.getsid(record.process.pid) != os.getsid(0)
    path, deadline = os.path.join(state, "facts"), time.monotonic() + 10
    while not os.path.exists(path) or not os.path.getsize(path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with open(path, encoding="utf-8") as file:
        directory, _, environ = eval(file.read())
    assert directory == "/"
    assert "A_SECRET" not in environ


def test_a_daemon_that_was_killed_is_replaced(state: str) -> None:
    embedded.ensure(state)
    record = daemon_record.read(state)
    assert record is not None
    os.kill(record.process.pid, signal.SIGKILL)
    while record.process.alive():
        time.sleep(0.01)
    embedded.ensure(state)
    assert starts(state) == 2


def test_an_older_daemon_makes_room(state: str) -> None:
    mode(state, str(PROTOCOL - 1))
    embedded._spawn(state, embedded.lock(state) or 0, [])
    while (old := daemon_record.read(state)) is None:
        time.sleep(0.01)
    mode(state, str(PROTOCOL))
    embedded.ensure(state)
    assert not old.process.alive()
    new = daemon_record.read(state)
    assert new is not None
    assert new.protocol == PROTOCOL


def test_a_newer_daemon_stays_and_says_what_to_do(state: str) -> None:
    mode(state, str(PROTOCOL + 1))
    with pytest.raises(VersionError, match=r"9\.9.*pip install --upgrade"):
        embedded.ensure(state)
    assert starts(state) == 1


def test_one_that_does_not_start_says_why_in_one_line(state: str) -> None:
    mode(state, "fail")
    with pytest.raises(CannotReach, match=r"does not start: the port is in use\. See the logs in") as caught:
        embedded.ensure(state)
    assert "\n" not in str(caught.value)


def test_stop_ends_it_and_says_whether_there_was_one(state: str) -> None:
    assert not embedded.stop(state)
    embedded.ensure(state)
    record = daemon_record.read(state)
    assert record is not None
    assert embedded.stop(state)
    assert not record.process.alive()
    assert not embedded.stop(state)


def test_stop_ends_what_a_killed_daemon_left(state: str) -> None:
    embedded.ensure(state)
    record = daemon_record.read(state)
    assert record is not None
    daemon_record.write_children(state, [record.process])
    os.unlink(daemon_record.record_path(state))
    assert embedded.stop(state)
    assert not record.process.alive()


def test_a_path_too_long_for_sockets_is_told() -> None:
    with pytest.raises(InvalidError, match="too long"):
        embedded.ensure("/tmp/" + "x" * 100)


def test_a_state_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidError, match="Cannot use the state directory"):
        embedded.ensure(str(tmp_path / "file" / "state"))
