"""A fake server and clients of it, over every transport."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from squall.client.blocking import BlockingClient
from squall.client.core import Credentials
from tests.client.fake_server import FakeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from squall.client.transport import Endpoint

OPENSSL = shutil.which("openssl")
TRANSPORTS = [
    "tcp",
    pytest.param(
        "tls", marks=pytest.mark.skipif(OPENSSL is None, reason="no openssl to make a certificate with")
    ),
    "unix",
    "nested",
]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture
def endpoint(server: FakeServer, tmp_path: Path) -> Endpoint:
    return server.start(tmp_path / "s.sock")


@pytest.fixture(params=TRANSPORTS)
def any_endpoint(
    request: pytest.FixtureRequest, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Endpoint:
    """The server behind one transport after the other."""
    if request.param in {"unix", "nested"}:
        return server.start(tmp_path / "s.sock", nested=request.param == "nested")
    if request.param == "tcp":
        return server.start()
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tmp_path / "key.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return server.start(tls=context)


@pytest.fixture
def connect(server: FakeServer) -> Iterator[Callable[[Endpoint], BlockingClient]]:
    clients: list[BlockingClient] = []

    def connect(endpoint: Endpoint) -> BlockingClient:
        client = BlockingClient(endpoint, Credentials("secret"))
        clients.append(client)
        client.open(10)
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Callable[[Endpoint], BlockingClient], endpoint: Endpoint) -> BlockingClient:
    return connect(endpoint)


def make_certificate(folder: Path) -> Path:
    """A self-signed one for 127.0.0.1, with its key beside it."""
    assert OPENSSL is not None
    command = [
        OPENSSL,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run([*command, *files, *names], check=True, capture_output=True, timeout=60)
    return folder / "cert.pem"
