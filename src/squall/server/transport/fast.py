"""WebSocket by picows: frames are parsed in C, and an echo costs 11 us instead of 30.

picows has no public way to take over a connection whose upgrade request somebody else has read. This module
is all that knows its internals, for the versions in `fits`; for others the server uses `plain`.
"""

from __future__ import annotations

import importlib.metadata
import logging
from typing import TYPE_CHECKING, Any

from picows import WSCloseCode, WSListener, WSMsgType
from picows.picows import WSAutoPingStrategy, WSProtocol  # type: ignore[attr-defined]

from squall.server.transport.heartbeat import Heartbeat
from squall.server.transport.link import Wire
from squall.server.transport.peers import in_kernel, is_unix, name_of
from squall.wire.codec import FRAME_LIMIT

if TYPE_CHECKING:
    import asyncio

    from picows import WSFrame, WSTransport

    from squall.server.transport.limits import Limits
    from squall.server.transport.link import Link

#: What picows logs is of no use to anybody here: peers' mistakes, at level ERROR.
_silent = logging.Logger("squall.server.picows", logging.CRITICAL + 1)  # noqa: LOG001 - belongs to no tree

log = logging.getLogger("squall.server.transport")

_READ_BUFFER = 16 << 10
#: `send` copies frames up to this size. Of larger ones it gives uvloop a view of the frame's head, which the
#: next frame overwrites before this one has left; so these are sent from buffers of their own, with room for
#: the head in front.
_COPIED = 8192
_HEAD = 14


def fits() -> bool:
    """Whether the picows that is installed has the internals that are used here."""
    return importlib.metadata.version("picows").split(".")[:2] == ["2", "3"]


def hand_over(transport: asyncio.Transport, key: bytes, link: Link, limits: Limits) -> None:
    """Take over a connection that sent a sound upgrade request with this Sec-WebSocket-Key."""
    socket = _UnixTransport(transport) if is_unix(transport) else transport
    protocol = _Protocol(_Listener(link, limits), limits)
    protocol.connection_made(socket)
    transport.pause_reading()
    transport.set_protocol(protocol)
    protocol.feed(_REQUEST % key)
    if not transport.is_closing():
        transport.resume_reading()


#: The request once more, in the only form that picows takes.
_REQUEST = (
    b"GET /rpc HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n"
)


class _Protocol(WSProtocol):  # type: ignore[misc]  # compiled
    """Counts what arrives: a sign of life, and before the first frame is whole, not too much."""

    def __init__(self, listener: _Listener, limits: Limits) -> None:
        super().__init__(
            None,  # host and path: of clients
            None,
            False,  # we are the server
            lambda _request: listener,
            _silent,
            True,  # disconnect on exceptions
            limits.head,
            False,  # no pings of its own: `Heartbeat` knows about pauses and slow readers
            limits.ping_after,
            limits.ping_patience,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            True,  # answer pings
            FRAME_LIMIT,
            None,
            _READ_BUFFER,
        )
        self._owner = listener

    def feed(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            buffer = self.get_buffer(-1)
            count = min(len(buffer), len(rest))
            buffer[:count] = rest[:count]
            super().buffer_updated(count)
            rest = rest[count:]

    def buffer_updated(self, count: int) -> None:
        super().buffer_updated(count)
        self._owner.heard(count)


class _Listener(WSListener, Wire):
    """picows' callbacks on one side, `Link` on the other."""

    def __init__(self, link: Link, limits: Limits) -> None:
        self._link = link
        self._limits = limits
        self._transport: WSTransport | None = None
        self._heartbeat: Heartbeat | None = None
        self._arrived = 0
        self._pieces: list[bytes] = []
        self._pieces_size = 0

    # --------------------------------------------------------------------------------------- from the peer

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._heartbeat = Heartbeat(self._limits, self._left, transport.send_ping, self._dead)
        self._link.open(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._link.refuse("reserved bits of a WebSocket frame are set")
        elif kind == WSMsgType.BINARY and frame.fin and not self._pieces:
            self._link.received(frame.get_payload_as_bytes())
        elif kind == (WSMsgType.CONTINUATION if self._pieces else WSMsgType.BINARY):
            self._piece(frame)
        elif kind == WSMsgType.CLOSE:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        elif kind != WSMsgType.PONG:
            self._link.refuse("a WebSocket frame that is not binary")

    def _piece(self, frame: WSFrame) -> None:
        self._pieces.append(frame.get_payload_as_bytes())
        self._pieces_size += frame.payload_size
        if self._pieces_size > (self._limits.hello_bytes if self._link.expects_hello else FRAME_LIMIT):
            self._pieces = []
            self._link.refuse("a frame over the limit")
        elif frame.fin:
            data, self._pieces, self._pieces_size = b"".join(self._pieces), [], 0
            self._link.received(data)

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - of the interface
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._link.lost()

    def heard(self, count: int) -> None:
        """Bytes have arrived and were parsed."""
        if self._heartbeat is not None:
            self._heartbeat.heard()
        if self._link.expects_hello:
            self._arrived += count
            if self._arrived > self._limits.hello_bytes:
                self._link.refuse("its first frame is no Hello")

    def _left(self) -> int:
        return self.pending() + in_kernel(self._ws.underlying_transport)

    def _dead(self) -> None:
        log.info("%s is silent: its connection ends", name_of(self._link.peer))
        self.abort()

    def pause_writing(self) -> None:
        """`Link` has a limit of its own."""

    def resume_writing(self) -> None:
        """As pause_writing."""

    # ----------------------------------------------------------------------------------------- to the peer

    @property
    def _ws(self) -> WSTransport:
        assert self._transport is not None
        return self._transport

    def write(self, frame: bytes) -> None:
        if len(frame) <= _COPIED:
            self._ws.send(WSMsgType.BINARY, frame)
            return
        buffer = bytearray(_HEAD)
        buffer += frame
        self._ws.send_reuse_external_bytearray(WSMsgType.BINARY, buffer, _HEAD)

    def pending(self) -> int:
        return self._ws.underlying_transport.get_write_buffer_size()

    def read(self, *, on: bool) -> None:
        transport = self._ws.underlying_transport
        if transport.is_closing():
            return
        if self._heartbeat is not None:
            self._heartbeat.heard()
            self._heartbeat.reading = on
        if on:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def finish(self, code: int) -> None:
        self._ws.send_close(WSCloseCode(code))
        self._ws.disconnect()

    def abort(self) -> None:
        self._ws.disconnect(graceful=False)


class _UnixTransport:
    """Keeps picows from setting TCP's options on a Unix socket."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        value = self._transport.get_extra_info(name, default)
        return _UnixSocket(value) if name == "socket" else value


class _UnixSocket:
    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def setsockopt(self, *_args: object) -> None:
        """TCP_NODELAY and TCP_QUICKACK: there is no delay to turn off."""

    def getsockopt(self, *_args: object) -> int:
        return 0
