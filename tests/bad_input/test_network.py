"""The server's door: ports that are taken, other versions, wrong tokens, names that nobody allowed."""

from __future__ import annotations

import dataclasses
import http.client
import re
import socket
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from squall.client import daemon_record
from squall.wire.values import PROTOCOL
from tests.house.troubleshooting import met

if TYPE_CHECKING:
    from tests.bad_input.conftest import Desk

pytestmark = pytest.mark.e2e


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_port_in_use(desk: Desk) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = desk.refused("daemon", "start", "--listen", address)
    assert (
        f"cannot listen on {address}: another program listens there: stop it, or choose another port" in line
    )
    assert desk.ok("daemon", "stop") == "Not running.\n"
    desk.ok("daemon", "start", "--listen", f"127.0.0.1:{free_port()}")
    desk.works()


@pytest.mark.parametrize(("step", "who"), [(1, "server"), (-1, "client")])
def test_a_client_of_another_version(user: Desk, step: int, who: str) -> None:
    code = (
        f"import squall.client.core as core; core.PROTOCOL += {step}\n"
        "from squall.cli import main; main(['status'], prog_name='squall')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=user.environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"(protocol {PROTOCOL}): upgrade the {who}" in done.stderr
    line = done.stderr.removeprefix("squall: ")
    met(
        line,
        "VersionError: the client is squall ... (protocol ...), the server is squall ... "
        "(protocol ...): upgrade the ...",
    )


def test_a_daemon_that_is_newer(user: Desk) -> None:
    """Also one whose record has words that this client does not know."""
    found = daemon_record.read(user.state)
    assert found is not None
    newer = {**dataclasses.asdict(found), "protocol": PROTOCOL + 1, "version": "99.0", "news": 1}
    path = daemon_record.record_path(user.state)
    daemon_record._store(path, newer)
    try:
        line = user.refused("run", "good.py")
    finally:
        daemon_record.write(user.state, found)
    assert line.startswith("The running daemon is Squall 99.0, newer than this one (")
    assert line.endswith("upgrade with `pip install --upgrade squall`.")


def test_tokens_and_names_over_tcp(desk: Desk) -> None:
    port = free_port()
    start = ["daemon", "start", "--listen", f"127.0.0.1:{port}"]
    desk.ok(*start, "--allowed-host", "squall.example", "--allowed-origin", "https://ui.example")
    assert "--allowed-host squall.example, --allowed-origin https://ui.example" in desk.refused(*start)
    url = f"ws://127.0.0.1:{port}"
    for token in ("", "nonsense", "sq-nonsense"):
        line = desk.refused("status", SQUALL_SERVER_URL=url, SQUALL_TOKEN=token)
        assert line.endswith("make one with `squall token new` on the server and set SQUALL_TOKEN")
    # A name is a matter of the guard, and comes before any token.
    assert answer(port, "squall.example") == 200
    assert answer(port, "squall.example", "https://ui.example") == 200
    assert answer(port, "other.example") == 403
    assert answer(port, "squall.example", "https://evil.example") == 403
    assert "no workspace 'nobody'" in desk.refused("token", "new", "--workspace", "nobody")
    token = token_in(desk.ok("workspace", "create", "guests"))
    assert "guests" in desk.ok("status", SQUALL_SERVER_URL=url, SQUALL_TOKEN=token)
    revoke_all(desk)
    desk.ok(*start)
    line = desk.refused("status", SQUALL_SERVER_URL=url, SQUALL_TOKEN=token)
    met(
        line,
        "AuthError: the token is wrong: make one with `squall token new` on the server and set SQUALL_TOKEN",
    )
    desk.works()


def token_in(text: str) -> str:
    found = re.search(r"Token: *(\S+)", text)
    assert found is not None
    return found[1]


def revoke_all(desk: Desk) -> None:
    """As an operator would today: there is no command for it yet."""
    desk.ok("daemon", "stop")
    with sqlite3.connect(f"{desk.state}/server/db.sqlite") as database:
        assert database.execute("DELETE FROM tokens").rowcount > 0
    database.close()


def answer(port: int, host: str, origin: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/", headers={"Host": host, **({"Origin": origin} if origin else {})})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_server_that_is_not_there(desk: Desk) -> None:
    line = desk.refused("status", SQUALL_SERVER_URL=f"ws://127.0.0.1:{free_port()}", SQUALL_TOKEN="x")
    assert "Connection refused. Check that it runs, and the URL in SQUALL_SERVER_URL" in line
    assert desk.refused("status").endswith("Start it with `squall daemon start`.")
    assert "is no server's URL: write https://HOST:PORT" in desk.refused("status", SQUALL_SERVER_URL="here")
