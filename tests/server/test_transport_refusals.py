"""What the port refuses: web pages, rebinding, other users, and bytes that are no messages."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from squall.server.transport.guard import Guard
from squall.server.transport.limits import Limits
from squall.server.transport.serve import Transport
from squall.wire import codec
from squall.wire.messages import Request
from tests.server.transport_kit import HELLO, UPGRADE, Client, Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

REBOUND = "evil.example:8000"

# ------------------------------------------------------------------------------------------------ the guard


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost:3000", "null", "http://127.0.0.1"]
)
async def test_a_web_page_gets_nowhere(where: str | int, server: Server, origin: str) -> None:
    client = await Client.websocket(where, {"Origin": origin})
    assert client.status == 403
    assert client.body == "squall: web pages may not use this server (Origin header)\n"
    assert await client.reader.read() == b""
    assert server.control.conversations == []


@pytest.mark.parametrize("host", [REBOUND, "localhost.evil.example", "127.0.0.1.nip.io", "[::1", "", "127.1"])
async def test_a_rebound_name_gets_nowhere(server: Server, host: str) -> None:
    client = await Client.websocket(server.port, {"Host": host})
    assert client.status in (400, 403)
    assert server.control.conversations == []


async def test_two_hosts_are_one_too_many(server: Server) -> None:
    client = await Client.connect(server.port)
    assert await client.answer(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n") == 403


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "10.1.2.3:80", "[::1]", "[fe80::1]:80"]
)
async def test_addresses_and_localhost_are_fine(server: Server, host: str) -> None:
    assert (await Client.websocket(server.port, {"Host": host})).status == 101


async def test_on_the_unix_socket_the_host_says_nothing(server: Server) -> None:
    assert (await Client.websocket(server.path, {"Host": "anything"})).status == 101


async def test_names_and_origins_can_be_allowed(adapter: str, tmp_path: Path) -> None:
    guard = Guard(frozenset({"squall.example"}), frozenset({"https://ui.example"}))
    async with running(str(tmp_path / "r" / "s.sock"), Transport(guard=guard, adapter=adapter)) as server:
        good = {"Host": "Squall.example:443", "Origin": "https://ui.example"}
        assert (await Client.websocket(server.port, good)).status == 101
        for bad in (
            {"Host": REBOUND},
            {"Origin": "https://ui.example.evil"},
            {"Origin": "http://ui.example"},
        ):
            assert (await Client.websocket(server.port, {**good, **bad})).status == 403


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": REBOUND}])
async def test_plain_http_has_the_same_rules(server: Server, headers: dict[str, str]) -> None:
    client = await Client.connect(server.port)
    assert await client.request("/", headers) == 403
    # A health check may come under any name, but not from a page.
    status = 403 if "Origin" in headers else 200
    assert await (await Client.connect(server.port)).request("/healthz", headers) == status
    # A health check that turns into something else is none.
    assert await (await Client.connect(server.port)).request("/healthz", {**UPGRADE, **headers}) == 403


async def test_plain_http(where: str | int) -> None:
    client = await Client.connect(where)
    assert await client.request("/healthz", {}) == 200
    assert client.body == "ok\n"
    assert await client.request("/", {}) == 200  # on the same connection
    assert client.body.startswith("This is a Squall server")
    assert await client.request("/other", {}) == 404
    assert await client.request("/rpc", {}) == 404


# ------------------------------------------------------------------------------------------- what is no HTTP


@pytest.mark.parametrize(
    ("path", "changes", "status"),
    [
        ("/", {}, 404),
        ("/rpc/x", {}, 404),
        ("/rpc", {"Sec-WebSocket-Version": "8"}, 400),
        ("/rpc", {"Sec-WebSocket-Version": ""}, 400),
        ("/rpc", {"Sec-WebSocket-Key": ""}, 400),
        ("/rpc", {"Sec-WebSocket-Key": "short"}, 400),
        ("/rpc", {"Sec-WebSocket-Key": "\xff" * 24}, 400),
        ("/rpc", {"Upgrade": "h2c"}, 400),
        ("/rpc", {"Upgrade": "squall/1"}, 400),
    ],
)
async def test_handshakes_that_are_none(
    server: Server, path: str, changes: dict[str, str], status: int
) -> None:
    client = await Client.connect(server.port)
    assert await client.request(path, {**UPGRADE, **changes}) == status
    assert client.body.startswith("squall: ")
    assert server.control.conversations == []


async def test_only_get_upgrades(server: Server) -> None:
    client = await Client.connect(server.port)
    assert await client.request("/rpc", {**UPGRADE, "Content-Length": "0"}, "POST") == 400


async def test_headers_may_list_more_than_upgrade(server: Server) -> None:
    assert (await Client.websocket(server.port, {"Connection": "keep-alive, Upgrade"})).status == 101


@pytest.mark.parametrize(
    "raw", [b"\x16\x03\x01\x02\0\x01\0\x01\xfc" * 20, b"SSH-2.0-x\r\n\r\n", b"\0" * 4000]
)
async def test_garbage_instead_of_http(where: str | int, server: Server, raw: bytes) -> None:
    client = await Client.connect(where)
    assert await client.answer(raw) == 400
    assert await client.reader.read() == b""
    assert server.control.conversations == []


async def test_a_head_without_end(where: str | int) -> None:
    client = await Client.connect(where)
    client.writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    assert await client.answer(b"".join(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(100))) == 431


async def test_a_head_that_never_comes(adapter: str, tmp_path: Path) -> None:
    transport = Transport(adapter=adapter, limits=Limits(head=0.1))
    async with running(str(tmp_path / "r" / "s.sock"), transport) as server:
        client = await Client.connect(server.port)
        assert await client.answer(b"GET / HTTP/1.1\r\n") == 408
        patient = await Client.greeted(server.port)
        await asyncio.sleep(0.2)
        patient.ask(1)
        await patient.receive()


async def test_a_body_behind_a_refusal_changes_nothing(server: Server) -> None:
    client = await Client.connect(server.port)
    head = b"POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 30\r\n\r\n"
    assert await client.answer(head + b"GET /rpc HTTP/1.1\r\nHost: x\r\n\r\n") == 403
    assert await (await Client.connect(server.port)).request("/healthz", {}) == 200


# --------------------------------------------------------------------------------------- what is no message


@pytest.mark.parametrize(
    "payload",
    [
        b"\0",
        b"\0\0\0\x05\x04",
        b"\0\0\0\0\x04",
        b"\xff\xff\xff\xff\x04",
        b"\0\0\0\x02\xc8\x80",
        b"\0\0\0\x02\x04\xc1",
        codec.encode([Request(1, "echo")])[:-1],
        codec.encode([Request(1, "echo")]) + b"!",
    ],
)
async def test_garbage_frames(where: str | int, server: Server, payload: bytes) -> None:
    client = await Client.greeted(where)
    client.frame(2, payload)
    assert await client.end() == 1002
    assert client.failure().code == "invalid"
    assert client.failure().message.startswith("this is not Squall's protocol: ")
    await asyncio.wait_for(server.control.last.gone.wait(), 10)
    assert len(server.control.last.frames) == 1


async def test_garbage_first_of_all(where: str | int, server: Server) -> None:
    client = await Client.websocket(where)
    client.frame(2, b"hello?")
    assert await client.end() == 1002
    assert server.control.last.frames == []


async def test_an_empty_frame_is_nothing(where: str | int, server: Server) -> None:
    client = await Client.greeted(where)
    client.frame(2)
    client.ask(1)
    await client.receive()
    assert len(server.control.last.frames) == 2


async def test_text_is_no_message(where: str | int) -> None:
    client = await Client.greeted(where)
    client.frame(1, b"hello")
    assert await client.end() == 1002
    assert "not binary" in client.failure().message


@pytest.mark.parametrize(
    ("opcode", "options"),
    [
        (2, {"mask": False}),
        (3, {}),
        (11, {}),
        (2 | 0x40, {}),
        (2 | 0x10, {}),
        (0, {}),
        (9, {"last": False}),
        (2, {"length": codec.FRAME_LIMIT + 1}),
        (2, {"length": 1 << 62}),
        (2, {"length": (1 << 64) - 1}),
    ],
    ids=str,
)
async def test_frames_against_the_rules(
    where: str | int, server: Server, opcode: int, options: dict[str, int]
) -> None:
    client = await Client.greeted(where)
    client.frame(opcode, b"x" * 5, **options)  # type: ignore[arg-type]
    assert await client.end() in (1002, 1009)
    await asyncio.wait_for(server.control.last.gone.wait(), 10)
    assert len(server.control.last.frames) == 1


async def test_a_ping_that_is_too_long(where: str | int) -> None:
    client = await Client.greeted(where)
    client.frame(9, bytes(126))
    assert await client.end() == 1002


async def test_a_message_within_another(where: str | int) -> None:
    client = await Client.greeted(where)
    client.frame(2, b"\0", last=False)
    client.frame(2, b"\0")
    assert await client.end() == 1002


async def test_fragments_without_end(where: str | int, server: Server) -> None:
    client = await Client.greeted(where)
    piece = bytes(8 << 20)
    client.frame(2, piece, last=False)
    for _ in range(8):
        client.frame(0, piece, last=False)
    assert await client.end() in (0, 1002, 1009)
    await asyncio.wait_for(server.control.last.gone.wait(), 10)


async def test_the_first_frame_may_not_be_large(where: str | int, server: Server) -> None:
    client = await Client.websocket(where)
    client.send(HELLO, Request(1, "echo", bytes(200_000)))
    assert await client.end() in (0, 1002, 1009)
    assert server.control.last.frames == []


async def test_a_large_first_frame_is_not_even_held(tmp_path: Path) -> None:
    """Who has no token can make the server keep a few kilobytes, no more."""
    async with running(str(tmp_path / "r" / "s.sock"), Transport(adapter="picows")) as server:
        client = await Client.websocket(server.port)
        client.frame(2, bytes(300_000), length=60 << 20)
        assert await client.end() in (0, 1002)


async def test_garbage_from_many_hurts_nobody(where: str | int, server: Server) -> None:
    good = await Client.greeted(where)

    async def bad() -> None:
        client = await Client.websocket(where)
        # The first byte is no frame's: this must not look like the head of a long one, whose sender is slow.
        client.writer.write(b"\xff" + os.urandom(5000))
        await client.end()

    await asyncio.gather(*(bad() for _ in range(50)))
    good.ask(1)
    await good.receive()


# ---------------------------------------------------------------------------------------- other users


#: Connects and asks for health; prints the status, or the name of the error. The server may hang up first.
STRANGER = """
import contextlib, socket, sys
try:
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(sys.argv[1])
    with contextlib.suppress(BrokenPipeError):
        s.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    print(s.recv(100).split()[1].decode())
except OSError as error:
    print(type(error).__name__)
"""


#: An answer, or a closed door: what is read last of a connection that was closed on unread bytes.
REFUSED = ("403", "ConnectionResetError")


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory that others can pass: pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="squall-test-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


async def as_nobody(path: str) -> str:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-I", "-S"]
    process = await asyncio.create_subprocess_exec(
        *command, "-c", STRANGER, path, stdout=subprocess.PIPE, cwd="/"
    )
    out, _ = await process.communicate()
    return out.decode().strip()


needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv to be somebody else"
)


@pytest.mark.root
@needs_root
async def test_another_user_cannot_connect(passable: Path) -> None:
    path = str(passable / "s.sock")
    async with running(path, Transport()) as server:
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert await as_nobody(path) == "PermissionError"
        os.chmod(path, 0o666)
        assert await as_nobody(path) in REFUSED
        assert server.control.conversations == []


@pytest.mark.root
@needs_root
async def test_only_users_that_are_named_can_connect(passable: Path) -> None:
    path = str(passable / "s.sock")
    async with running(path, Transport(allowed_uids=frozenset({65534}))):
        assert await as_nobody(path) == "200"
        assert (await Client.websocket(path)).status == 101
    async with running(path, Transport(allowed_uids=frozenset({12345}))):
        assert await as_nobody(path) in REFUSED


# -------------------------------------------------------------------------------------------- the strangers


async def test_who_does_not_say_who_they_are_can_take_so_many_connections(
    adapter: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transport = Transport(adapter=adapter, limits=Limits(strangers=2))
    async with running(str(tmp_path / "r" / "s.sock"), transport) as server:
        await Client.greeted(server.port)
        server.control.last.connection.known()
        silent = [await Client.connect(server.port), await Client.websocket(server.port)]
        for _ in range(3):
            refused = await Client.websocket(server.port)
            assert refused.status == 503
            assert refused.body == (
                "squall: too many connections have not said who they are: try again later\n"
            )
        assert (await Client.websocket(server.path)).status == 101  # the machine's own users always can
        said = [r.getMessage() for r in caplog.records if "have not said who they are" in r.getMessage()]
        assert said == [
            "2 connections have not said who they are: more are refused; who can reach this port?"
        ]
        for client in silent:
            client.writer.transport.abort()
        assert (await until_admitted(server)).status == 101


async def until_admitted(server: Server) -> Client:
    """The server hears of closed connections in its own time."""
    while True:
        client = await Client.websocket(server.port)
        if client.status != 503:
            return client
        await asyncio.sleep(0.01)


def test_the_server_may_have_all_the_descriptors_it_can() -> None:
    code = (
        "import resource as r; hard = r.getrlimit(r.RLIMIT_NOFILE)[1]\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (99, hard))\n"
        "from squall.server.transport.strangers import Strangers, raise_descriptor_limit\n"
        "few = Strangers(1000)._limit; raise_descriptor_limit()\n"
        "print(few, r.getrlimit(r.RLIMIT_NOFILE) == (hard, hard))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "24 True\n"
