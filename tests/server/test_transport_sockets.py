from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from squall.server.transport.serve import Transport
from squall.server.transport.sockets import ListenError, listen_tcp, listen_unix
from tests.server.transport_kit import Client, Control, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "s.sock")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def test_the_socket_and_its_directory_are_private(path: str) -> None:
    mask = os.umask(0)
    try:
        with listen_unix(path):
            assert os.stat(path).st_mode & 0o777 == 0o600
            assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    finally:
        os.umask(mask)


def test_the_socket_of_a_dead_server_is_replaced(path: str) -> None:
    listen_unix(path).close()
    assert os.path.exists(path)
    with listen_unix(path) as sock, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        sock.accept()[0].close()


def test_the_socket_of_a_live_server_is_left_alone(path: str) -> None:
    with listen_unix(path) as sock:
        with pytest.raises(ListenError, match=r"another server listens on .*daemon stop"):
            listen_unix(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            sock.accept()[0].close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("data")
    with pytest.raises(ListenError, match="cannot listen on"):
        listen_unix(str(file))
    assert file.read_text() == "data"


def test_a_directory_that_others_can_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ListenError, match="chmod go-w"):
        listen_unix(str(tmp_path / "s.sock"))
    tmp_path.chmod(0o1777)
    listen_unix(str(tmp_path / "s.sock")).close()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match=r"cannot listen on .*too long"):
        listen_unix(str(tmp_path / ("x" * 120)))


def test_a_port_in_use_is_named(taken: int) -> None:
    with pytest.raises(ListenError) as caught:
        listen_tcp("127.0.0.1", taken)
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{taken}: another program listens there: stop it, or choose another port"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.name.invalid"])
def test_an_address_of_somebody_else(host: str) -> None:
    with pytest.raises(ListenError, match="give an address of this machine"):
        listen_tcp(host, 0)


def test_tcp_notices_dead_peers() -> None:
    with listen_tcp("127.0.0.1", 0) as sock, socket.create_connection(sock.getsockname()):
        accepted, _ = sock.accept()
        with accepted:
            options = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT", "TCP_NODELAY")
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            values = [accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in options]
            idle, interval, count, user_timeout, nodelay = values
            assert idle + interval * count <= 20
            assert user_timeout <= 20_000
            assert nodelay


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_ipv6() -> None:
    with listen_tcp("::1", 0) as sock, socket.create_connection(("::1", sock.getsockname()[1])):
        pass


@pytest.mark.anyio
async def test_a_port_in_use_leaves_no_socket_behind(path: str, taken: int) -> None:
    with pytest.raises(ListenError, match=str(taken)):
        await Transport().serve(Control(), path, ("127.0.0.1", taken))
    assert os.listdir(os.path.dirname(os.path.dirname(path))) == []


@pytest.mark.anyio
async def test_the_unix_socket_alone(path: str) -> None:
    transport = Transport()
    async with running(path, transport, tcp=None):
        assert transport.port is None
        await Client.greeted(path)


@pytest.mark.anyio
async def test_a_successors_socket_stays(path: str) -> None:
    async with running(path, Transport()) as first:
        os.unlink(path)
        async with running(path, Transport()) as second:
            await first.stop()
            await Client.greeted(second.path)
