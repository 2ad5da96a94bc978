"""HTTP by uvicorn: the guard before every request, and the upgrade of `GET /rpc` handed to picows."""

from __future__ import annotations

import base64
import binascii
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from squall.server.transport.guard import allowed_uid
from squall.server.transport.link import Link
from squall.server.transport.peers import name_of, peer_of
from squall.server.transport.plain import converse

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from squall.server.connection import Acceptor, Peer
    from squall.server.transport.guard import Guard
    from squall.server.transport.limits import Limits
    from squall.server.transport.strangers import Strangers

log = logging.getLogger("squall.server.transport")

RPC, HEALTH = b"/rpc", b"/healthz"

#: No page of another origin can load it as a script or an image.
_NO_PART_OF_A_PAGE = {"x-content-type-options": "nosniff", "cross-origin-resource-policy": "same-origin"}

_PHRASES = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 408: "Request Timeout"}
_PHRASES.update({431: "Request Header Fields Too Large", 503: "Service Unavailable"})


@dataclass(frozen=True)
class Door:
    """What every connection needs to know. `fast` says that picows does the WebSockets."""

    acceptor: Acceptor
    guard: Guard
    limits: Limits
    own_uid: int
    allowed_uids: frozenset[int]
    links: set[Link]
    strangers: Strangers
    fast: bool


def application(door: Door) -> Starlette:
    """Plain HTTP, and the WebSocket that is not fast."""

    async def rpc(websocket: WebSocket) -> None:
        await converse(websocket, door.acceptor, door.limits, door.links)

    routes = [Route("/healthz", _health), Route("/", _sign)]
    return Starlette(routes=[*routes, WebSocketRoute("/rpc", rpc)])


async def _health(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n", headers=_NO_PART_OF_A_PAGE)


async def _sign(_request: Request) -> PlainTextResponse:
    text = "This is a Squall server: point SQUALL_SERVER_URL and SQUALL_TOKEN at it.\n"
    return PlainTextResponse(text, headers=_NO_PART_OF_A_PAGE)


def protocol_class(door: Door) -> type[HttpToolsProtocol]:
    """For uvicorn, which makes one object of it for each connection."""

    class Protocol(GuardedProtocol):
        pass

    Protocol.door = door
    return Protocol


class _Refused(Exception):
    """Stops the parser; the answer is on its way."""


class GuardedProtocol(HttpToolsProtocol):
    """HttpToolsProtocol with our rules before its own."""

    door: Door

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._peer: Peer = peer_of(transport)
        self._over = False
        self._chunk = self._head_bytes = 0
        self._in_head = True
        self._timer = self.loop.call_later(self.door.limits.head, self._too_slow)
        # For the routes: in their `state`.
        self._known = partial(self.door.strangers.forget, transport)
        self.app_state = {**self.app_state, "peer": self._peer, "transport": transport, "known": self._known}
        if self._peer.kind == "tcp" and not self.door.strangers.admit(transport):
            self._answer(503, "too many connections have not said who they are: try again later", log.debug)
        if self._peer.kind == "unix" and not allowed_uid(
            self._peer.uid, self.door.own_uid, self.door.allowed_uids
        ):
            self._answer(403, f"user {self._peer.uid} of this machine may not use this socket")

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._known()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._chunk = len(data)
        self._head_bytes += self._chunk
        super().data_received(data)
        if self._in_head and self._head_bytes > self.door.limits.head_bytes and not self._over:
            self._answer(431, f"a request's head is over {self.door.limits.head_bytes} bytes")

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = self._chunk
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._timer.cancel()
        path = self.url.partition(b"?")[0]
        upgrade = self._get_upgrade() is not None
        any_host = self._peer.kind == "unix" or (path == HEALTH and not upgrade)
        why = self.door.guard.refusal(self.headers, any_host=any_host)
        if why:
            self._refuse(403, why)
        if upgrade:
            self._check_upgrade(path)
        super().on_headers_complete()

    def _check_upgrade(self, path: bytes) -> None:
        headers = dict(self.headers)
        if path != RPC:
            self._refuse(404, "the WebSocket is at /rpc")
        if self._get_upgrade() != b"websocket" or self.parser.get_method() != b"GET":
            self._refuse(400, "this can be upgraded to a WebSocket only, by GET")
        if headers.get(b"sec-websocket-version") != b"13" or not _is_key(
            headers.get(b"sec-websocket-key", b"")
        ):
            self._refuse(400, "this is no WebSocket handshake of version 13")

    def _should_upgrade_to_ws(self) -> bool:
        return True

    def handle_websocket_upgrade(self) -> None:
        if not self.door.fast:
            super().handle_websocket_upgrade()
            return
        from squall.server.transport import fast

        self.connections.discard(self)
        link = Link(self._peer, self.door.acceptor, self.door.limits, self.door.links, self._known)
        fast.hand_over(self.transport, dict(self.headers)[b"sec-websocket-key"], link, self.door.limits)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - of the interface
        if not self._over:
            self._answer(400, "this is not HTTP")

    def _too_slow(self) -> None:
        if not self._over:
            self._answer(408, "no request came")

    def _refuse(self, status: int, why: str) -> None:
        self._answer(status, why)
        raise _Refused(why)

    def _answer(self, status: int, why: str, told: Callable[..., None] = log.info) -> None:
        """The last word on this connection."""
        self._over = True
        self._timer.cancel()
        told("%s is refused: %s", name_of(self._peer), why)
        body = f"squall: {why}\n".encode()
        head = f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        self.transport.write(
            f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
        )
        self.transport.close()

    def eof_received(self) -> Any:
        return None


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False
