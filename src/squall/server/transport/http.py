"""HTTP by uvicorn; `GET /rpc` upgrades leave it here for picows (no cost to HTTP, 11 us an echo)."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

from picows.picows import WSAutoPingStrategy, WSProtocol
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from squall.server.transport.link import Endpoint, peer_of
from squall.wire.codec import FRAME_LIMIT

if TYPE_CHECKING:
    from starlette.requests import Request

    from squall.server.connection import Acceptor
    from squall.server.transport.guard import Guard

#: Seconds of silence before a ping, and before a peer that does not answer it is dead.
PING_AFTER = 10.0
PING_TIMEOUT = 10.0

_log = logging.getLogger("squall.websocket")
_log.setLevel(logging.ERROR)


def application() -> Starlette:
    """Plain HTTP: a health check and a sign on the door."""
    return Starlette(routes=[Route("/healthz", _health), Route("/", _sign)])


async def _health(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


async def _sign(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("This is a Squall server. Clients connect with SQUALL_SERVER_URL and SQUALL_TOKEN.\n")


def protocol(acceptor: Acceptor, guard: Guard, allowed_uids: frozenset[int]) -> type[HttpToolsProtocol]:
    """uvicorn's protocol class with the door to the RPC and the guard before everything."""

    class Protocol(HttpToolsProtocol):
        def connection_made(self, transport: Any) -> None:
            peer = peer_of(transport)
            if peer.kind == "unix" and peer.uid not in allowed_uids:
                transport.abort()
                return
            super().connection_made(transport)

        def on_headers_complete(self) -> None:
            health = self.url.partition(b"?")[0] == b"/healthz"
            why = "" if health else guard.refusal(_visible(self))
            if why:
                self.transport.write(_refusal(why))
                self.transport.close()
                return
            super().on_headers_complete()

        def _should_upgrade(self) -> bool:
            return self._get_upgrade() == b"websocket"

        def handle_websocket_upgrade(self) -> None:
            if self.url.partition(b"?")[0] != b"/rpc":
                self.transport.write(_refusal("WebSockets are at /rpc only"))
                self.transport.close()
                return
            self.connections.discard(self)
            _hand_over(self.transport, self.url, self.headers, acceptor)

    return Protocol


def _visible(request: HttpToolsProtocol) -> list[tuple[bytes, bytes]]:
    """On the Unix socket the Host says nothing; Origin is refused there too."""
    sock = request.transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        return [(name, value) for name, value in request.headers if name != b"host"] + [(b"host", b"localhost")]
    return list(request.headers)


def _refusal(why: str) -> bytes:
    body = f"squall: {why}\n".encode()
    return b"HTTP/1.1 403 Forbidden\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body)


def _hand_over(transport: Any, url: bytes, headers: list[tuple[bytes, bytes]], acceptor: Acceptor) -> None:
    """Give the transport to picows and let it read the request once more."""
    peer = peer_of(transport)
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    websocket = WSProtocol(
        None,
        None,
        False,  # noqa: FBT003 - server side
        lambda _request: Endpoint(acceptor, peer),
        _log,
        True,  # noqa: FBT003 - disconnect on exception
        5,
        True,  # noqa: FBT003 - ping by itself
        PING_AFTER,
        PING_TIMEOUT,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        True,  # noqa: FBT003 - answer pings
        FRAME_LIMIT,
        None,
        16384,
    )
    websocket.connection_made(transport)
    transport.pause_reading()
    transport.set_protocol(websocket)
    request = b"GET " + url + b" HTTP/1.1\r\n" + b"".join(n + b": " + v + b"\r\n" for n, v in headers) + b"\r\n"
    rest = memoryview(request)
    while rest:
        buffer = websocket.get_buffer(-1)
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        websocket.buffer_updated(count)
        rest = rest[count:]
    transport.resume_reading()
