"""The server's program, for real: it serves, ends in good order, and says in one line why it cannot start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from squall.client.blocking import BlockingClient
from squall.client.core import Credentials
from squall.client.transport import Endpoint
from squall.wire.control import Empty

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 30.0


def start(state: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "squall.server", "--state", str(state), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_until_it_listens(server: subprocess.Popen[str]) -> None:
    assert server.stderr is not None
    seen = []
    for line in server.stderr:
        seen.append(line)
        if "listening on" in line:
            return
    pytest.fail("the server ended: " + "".join(seen))


def refusal(state: Path, *arguments: str) -> str:
    server = start(state, *arguments)
    _, errors = server.communicate(timeout=PATIENCE)
    assert server.returncode == 1, errors
    said = [line for line in errors.splitlines() if line.startswith("squall server: ")]
    assert len(said) == 1, errors
    assert "Traceback" not in errors
    return said[0]


@pytest.mark.e2e
def test_it_serves_and_ends_in_good_order(tmp_path: Path) -> None:
    state = tmp_path / "state"
    server = start(state)
    try:
        wait_until_it_listens(server)
        path = str(state / "server.sock")
        client = BlockingClient(Endpoint(path, "", path=path), Credentials())
        client.open()
        assert client.request("status", Empty()).workspace == "default"
        client.close()
    finally:
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=PATIENCE)
    assert server.returncode == 0, errors
    assert not os.path.exists(state / "server.sock")


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refusal(tmp_path / "state", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "another program listens there" in said


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:x", "127.0.0.1:99999"])
def test_a_wrong_address(tmp_path: Path, listen: str) -> None:
    assert "give HOST:PORT" in refusal(tmp_path / "state", "--listen", listen)


def test_a_broken_database(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "db.sqlite").write_bytes(b"this is no database" * 1000)
    assert "db.sqlite" in refusal(state)


def test_a_state_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert "state" in refusal(tmp_path / "state")
