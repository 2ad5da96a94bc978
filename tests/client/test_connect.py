"""Where a client looks for its server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from squall import exception
from squall.client.connect import connect, connect_async, local, remote, way
from squall.config import Config, load
from squall.runner.protocol import CLIENT
from squall.wire import messages as m
from tests.house.source import SRC
from tests.house.troubleshooting import met

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.fake_server import FakeServer


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SERVER_URL", "TOKEN", "ENVIRONMENT", "IS_REMOTE", "SOCKET"):
        monkeypatch.delenv(f"SQUALL_{name}", raising=False)
    monkeypatch.setenv("SQUALL_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("SQUALL_STATE", str(tmp_path / "state"))


def test_without_settings_it_is_the_embedded_server(tmp_path: Path) -> None:
    endpoint, credentials = way(start=True)
    assert endpoint == local(str(tmp_path / "state"), start=True)
    assert endpoint.path.startswith(str(tmp_path / "state"))
    assert endpoint.prepare is not None
    assert credentials.token == ""
    assert way(start=False)[0].prepare is None


def test_the_environment_names_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUALL_SERVER_URL", "wss://squall.example:8443")
    monkeypatch.setenv("SQUALL_TOKEN", "secret")
    monkeypatch.setenv("SQUALL_ENVIRONMENT", "staging")
    endpoint, credentials = way(start=True)
    assert (endpoint.host, endpoint.port, endpoint.tls) == ("squall.example", 8443, True)
    assert (credentials.token, credentials.environment) == ("secret", "staging")


def test_a_token_without_a_server_is_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUALL_TOKEN", "secret")
    with pytest.raises(exception.InvalidError) as caught:
        way(start=True)
    met(
        str(caught.value),
        "InvalidError: There is a token and no server that it is for: set SQUALL_SERVER_URL (or "
        "server_url in the "
        "configuration file), or take the token away to use the server of this machine.",
    )


def test_the_file_names_a_server_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text('server_url = "ws://one:1"\ntoken = "from the file"\n')
    monkeypatch.setenv("SQUALL_SERVER_URL", "ws://two:2")
    assert load() == Config("ws://two:2", "from the file", "main")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server_url = ", "is not TOML"),
        ("token = 5", "must be a text in quotes"),
        (b"\xff\xfe", "Cannot read"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str | bytes, message: str) -> None:
    (tmp_path / "config.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(exception.InvalidError, match=message) as caught:
        load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("ws://a:1", "a", 1, False),
        ("wss://a", "a", 443, True),
        ("https://a/", "a", 443, True),
        ("http://[::1]:8400", "::1", 8400, False),
    ],
)
def test_urls(url: str, host: str, port: int, tls: bool) -> None:
    endpoint = remote(url)
    assert (endpoint.host, endpoint.port, endpoint.tls) == (host, port, tls)


@pytest.mark.parametrize(
    "url", ["a:1", "ftp://a", "ws://", "ws://a:port", "ws://a:99999", "ws://a/some/path"]
)
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(exception.InvalidError, match="is no server's URL"):
        remote(url)


def test_in_a_container_it_is_the_agent_s_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: FakeServer
) -> None:
    endpoint = server.start(tmp_path / "agent.sock", nested=True)
    monkeypatch.setenv("SQUALL_IS_REMOTE", "1")
    monkeypatch.setenv("SQUALL_SOCKET", endpoint.path)
    monkeypatch.setenv("SQUALL_SERVER_URL", "ws://not.this.one:1")
    client = connect()
    assert client.workspace == "default"
    client.close()
    (hello,) = server.of(m.Hello)
    assert hello.token == ""
    assert CLIENT[:4] == b"\xff\xff\xff\xff"


@pytest.mark.skipif(sys.platform != "linux", reason="containers run on Linux")
def test_a_socket_may_lie_deep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: FakeServer) -> None:
    """With the process driver it is below the state directory: longer than a socket's address may be."""
    server.start(tmp_path / "agent.sock", nested=True)
    deep = tmp_path / ("x" * 150)
    deep.symlink_to(tmp_path)
    monkeypatch.setenv("SQUALL_IS_REMOTE", "1")
    monkeypatch.setenv("SQUALL_SOCKET", str(deep / "agent.sock"))
    connect().close()

    async def main() -> None:
        await (await connect_async()).close()

    asyncio.run(main())
    assert len(server.of(m.Hello)) == 2


def test_connect_and_connect_async(monkeypatch: pytest.MonkeyPatch, server: FakeServer) -> None:
    endpoint = server.start()
    monkeypatch.setenv("SQUALL_SERVER_URL", endpoint.address)
    monkeypatch.setenv("SQUALL_TOKEN", "secret")
    client = connect()
    client.close()

    async def main() -> None:
        other = await connect_async()
        await other.close()

    asyncio.run(main())
    assert [h.token for h in server.of(m.Hello)] == ["secret", "secret"]


def test_without_start_a_missing_daemon_is_told(tmp_path: Path) -> None:
    with pytest.raises(exception.ConnectionError, match="squall daemon start"):
        connect(start=False)
    assert not (tmp_path / "state").exists()


def test_the_interface_loads_neither_msgspec_nor_asyncio() -> None:
    code = "import sys; import squall.client.api; print({'msgspec', 'asyncio', 'ssl'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


def test_the_client_works_without_msgspec(server: FakeServer, tmp_path: Path) -> None:
    endpoint = server.start(tmp_path / "agent.sock", nested=True)
    code = """
import sys; sys.modules["msgspec"] = None
from squall.client.connect import connect
from squall.wire.control import Empty
from squall.wire.values import InputItem, Payload
client = connect()
assert client.request("status", Empty()).protocol == 1
call = client.open_call("fu-1", "unary")
call.send([InputItem(0, Payload(b"x" * 300_000))], last=True)
assert call.next(20).outcome.payload.data == b"x" * 300_000
client.close()
"""
    environ = {"PYTHONPATH": str(SRC), "SQUALL_IS_REMOTE": "1", "SQUALL_SOCKET": endpoint.path}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=60)
