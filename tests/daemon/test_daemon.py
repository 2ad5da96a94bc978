"""The real daemon: started by the first client, found by others, ended without a trace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import squall.cli
from squall import exception
from squall.client import core, daemon_record, embedded
from squall.client.api import Watch
from squall.client.blocking import BlockingClient
from squall.client.connect import connect, local, remote
from squall.client.core import Credentials
from squall.wire.control import AppLookup, Empty, TokenNew
from squall.wire.values import PROTOCOL
from tests.house.troubleshooting import met

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squall.client.daemon_record import DaemonRecord, Process

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="the daemon needs Linux"),
]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("SERVER_URL", "TOKEN", "IS_REMOTE", "TRACEBACK"):
        monkeypatch.delenv(f"SQUALL_{name}", raising=False)
    folder = str(tmp_path / "state")
    monkeypatch.setenv("SQUALL_STATE", folder)
    monkeypatch.setenv("SQUALL_DRIVER", "process")
    yield folder
    embedded.stop(folder)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def record(state: str) -> DaemonRecord:
    found = daemon_record.read(state)
    assert found is not None
    return found


def child(state: str, name: str) -> Process:
    """It may be about to start: the server answers before the agent is there."""
    until(lambda: any(c.name == name for c in daemon_record.read_children(state)))
    return next(c for c in daemon_record.read_children(state) if c.name == name)


def ours(state: str) -> list[str]:
    """What on this host names the state directory: processes and mounts."""
    commands: list[bytes] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it may end as we look
            commands.append(path.read_bytes())
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return [c.decode() for c in commands if state.encode() in c] + [m for m in mounts if state in m]


def has_begun(state: str, name: str) -> bool:
    """Whether it is the program itself and no longer what starts it."""
    command = Path(f"/proc/{child(state, name).pid}/cmdline").read_bytes()
    return f"squall.{name}".encode() in command and b"squall.daemon.view" not in command


def privileges_of(process: Process) -> dict[str, set[str]]:
    """The ids that are root's and the sets of capabilities that hold any, by what they begin with.

    The bounding set is left out: no_new_privs, which must be set, makes it useless.
    """
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    ids = {name: fields[name] for name in ("Uid", "Gid", "Groups")}
    capabilities = {name: fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
    found = {name: {name for _ in values if "0" in values} for name, values in ids.items()}
    found["Cap"] = {name for name, (value,) in capabilities.items() if int(value, 16)}
    found["Cap"] |= set() if fields["NoNewPrivs"] == ["1"] or "0" in ids["Uid"] else {"NoNewPrivs"}
    return found


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(squall.cli.main, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_the_first_clients_start_one_server(state: str) -> None:
    pids: list[int] = []

    def use() -> None:
        client = connect()
        assert client.request("status", Empty()).workspace == "default"
        pids.append(record(state).process.pid)
        client.close()

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(pids) == 3
    assert len(set(pids)) == 1
    assert "Driver:         process" in run("daemon", "status")
    assert "no isolation" in run("daemon", "status")
    assert run("daemon", "stop") == "Stopped.\n"
    assert ours(state) == []


def test_a_killed_server_comes_back_and_the_client_goes_on(state: str) -> None:
    client = connect()
    back = threading.Event()
    client.watch = Watch(reconnected=back.set)
    child(state, "server").signal(signal.SIGKILL)
    assert client.request("status", Empty(), timeout=30).workspace == "default"
    assert back.wait(10)
    client.close()


def test_a_killed_daemon_is_replaced_and_its_server_with_it(state: str) -> None:
    connect().close()
    old, old_server = record(state).process, child(state, "server")
    old.signal(signal.SIGKILL)
    until(lambda: not old.alive())
    assert old_server.alive()
    connect().close()
    assert record(state).process != old
    assert not old_server.alive()
    assert len([line for line in ours(state) if "squall.server" in line]) == 1


def test_what_a_killed_daemon_left_can_be_stopped(state: str) -> None:
    connect().close()
    old = record(state).process
    old.signal(signal.SIGKILL)
    until(lambda: not old.alive())
    assert run("daemon", "stop") == "Stopped.\n"
    until(lambda: ours(state) == [])


def test_one_that_a_program_started_makes_way_once_it_idles(state: str) -> None:
    client = connect()
    old = record(state).process
    told = run("daemon", "start", code=1)
    met(
        told.removeprefix("squall: ").rstrip(),
        "ConflictError: The daemon that a program started for itself is still at work (`squall "
        "status`): wait for "
        "its end, or end it and what it runs by `squall daemon stop`; then start this one.",
    )
    assert record(state).process == old
    client.close()
    assert "Replaced the daemon that a program had started for itself." in run("daemon", "start")
    assert record(state).process != old
    assert record(state).idle_exit == 0


def test_tcp_wants_a_token(state: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run("daemon", "start", "--listen", f"127.0.0.1:{port}")
    assert "with other options" in run("daemon", "start", code=1)
    admin = connect(start=False)
    token = admin.request("token.new", TokenNew()).token
    admin.close()
    client = BlockingClient(remote(f"ws://127.0.0.1:{port}"), Credentials(token))
    client.open(10)
    assert client.request("status", Empty()).workspace == "default"
    client.close()
    for wrong in ("", "sq-wrong"):
        with pytest.raises(exception.AuthError) as caught:
            BlockingClient(remote(f"ws://127.0.0.1:{port}"), Credentials(wrong)).open(10)
        assert "squall token new" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_port_in_use_is_told_in_one_line(state: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = run("daemon", "start", "--listen", f"127.0.0.1:{port}", code=1)
    assert said.count("\n") == 1
    assert said.startswith("squall: The embedded server does not start: ")
    assert f"{port}" in said
    assert ours(state) == []


def test_another_protocol_is_told(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connect().close()
    monkeypatch.setattr(core, "PROTOCOL", PROTOCOL + 1)
    with pytest.raises(exception.VersionError) as caught:
        BlockingClient(local(state, start=False), Credentials()).open(10)
    assert "\n" not in str(caught.value)


def test_it_ends_when_nobody_uses_it_and_not_before(state: str) -> None:
    embedded.ensure(state, ("--idle-exit", "1"))
    client = connect()
    process = record(state).process
    time.sleep(2.5)
    assert process.alive()
    client.close()
    until(lambda: not process.alive())
    assert ours(state) == []


def test_deployed_apps_alone_do_not_keep_it(state: str) -> None:
    """The next client starts it again, and finds them."""
    embedded.ensure(state, ("--idle-exit", "1"))
    process = record(state).process
    client = connect()
    app = client.request("app.lookup", AppLookup("kept", create_if_missing=True)).id
    client.close()
    until(lambda: not process.alive())
    again = connect()
    assert again.request("app.lookup", AppLookup("kept")).id == app
    again.close()


def test_a_client_does_not_start_again_what_its_user_stopped(state: str) -> None:
    client = connect()
    assert run("daemon", "stop") == "Stopped.\n"
    with pytest.raises(exception.ConnectionError, match=r"was stopped with `squall daemon stop`"):
        client.request("status", Empty())
    assert daemon_record.read(state) is None
    assert ours(state) == []
    client.close()
    connect().close()  # a new one does
    assert record(state).process.alive()


def test_sigterm_ends_it_within_ten_seconds(state: str) -> None:
    connect().close()
    process = record(state).process
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    until(lambda: not process.alive())
    assert time.monotonic() - began < 10
    assert ours(state) == []


def test_in_the_foreground_it_ends_by_ctrl_c(state: str) -> None:
    command = [sys.executable, "-m", "squall", "daemon", "start", "--foreground"]
    environ = {**embedded.environment(os.environ), "SQUALL_STATE": state}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: daemon_record.read(state) is not None and embedded.answers(state))
        assert "does not end when idle" in run("daemon", "start", "--gpus", "H100:8", code=1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert ours(state) == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="the namespaces driver needs root")
def test_with_the_launcher_nothing_is_left_either(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SQUALL_DRIVER")
    connect().close()
    if record(state).driver != "namespaces":
        pytest.skip(f"this host has no namespaces: {record(state).losses}")
    for name in ("server", "node"):
        until(partial(has_begun, state, name))
        assert privileges_of(child(state, name)) == {
            "Uid": set(),
            "Gid": set(),
            "Groups": set(),
            "Cap": set(),
        }
    assert privileges_of(child(state, "launcher"))["Uid"] == {"Uid"}
    assert embedded.stop(state)
    assert ours(state) == []
