"""A peer behind picows: the adapter between its listener and ours. picows has no public hand-over API, so this
module and `http.py` are all that know it; its version is pinned.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import TYPE_CHECKING

from picows import WSListener, WSMsgType

from squall.server.connection import Connection, Peer
from squall.wire import codec
from squall.wire.messages import Failure

if TYPE_CHECKING:
    from picows import WSFrame, WSTransport

    from squall.server.connection import Acceptor, Listener

log = logging.getLogger(__name__)

#: A peer that lets this much pile up is not reading: its connection ends.
BUFFER_LIMIT = 256 << 20


class Link(Connection):
    """Coalesces what is sent in one turn of the loop into one frame."""

    def __init__(self, transport: WSTransport, peer: Peer) -> None:
        self.peer = peer
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._outbox: list[object] = []
        self._gone = False

    def send(self, *messages: object) -> None:
        if self._gone:
            return
        if not self._outbox:
            self._loop.call_soon(self.flush)
        self._outbox.extend(messages)

    def flush(self) -> None:
        messages, self._outbox = self._outbox, []
        if not messages or self._gone:
            return
        self._transport.send(WSMsgType.BINARY, codec.encode(messages))
        if self.buffered() > BUFFER_LIMIT:
            log.warning("%s does not read: its connection ends", self.peer.address or self.peer.kind)
            self._transport.disconnect(graceful=False)

    def buffered(self) -> int:
        size: int = self._transport.underlying_transport.get_write_buffer_size()
        return size

    def pause(self) -> None:
        if not self._gone:
            self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        if not self._gone:
            self._transport.underlying_transport.resume_reading()

    def close(self) -> None:
        self.flush()
        if not self._gone:
            self._transport.send_close()
            self._transport.disconnect()

    def lost(self) -> None:
        self._gone = True


class Endpoint(WSListener):  # type: ignore[misc] - picows is compiled
    """One accepted WebSocket."""

    def __init__(self, acceptor: Acceptor, fallback: Peer) -> None:
        self._acceptor = acceptor
        self._peer = fallback
        self._listener: Listener | None = None
        self._link: Link | None = None
        self._parts: list[bytes] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._link = Link(transport, self._peer)
        self._listener = self._acceptor.accept(self._link)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif frame.msg_type in (WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._data(frame.get_payload_as_bytes(), last=frame.fin)
        else:
            self._refuse("a frame that is not binary")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._link is not None:
            self._link.lost()
        if self._listener is not None:
            self._listener.closed()

    def _data(self, data: bytes, *, last: bool) -> None:
        if self._parts or not last:
            self._parts.append(data)
            if sum(map(len, self._parts)) > codec.FRAME_LIMIT:
                self._refuse("a frame over the limit")
                return
            if not last:
                return
            data, self._parts = b"".join(self._parts), []
        try:
            messages = codec.decode(data)
        except codec.ProtocolError as error:
            self._refuse(str(error))
            return
        if self._listener is not None:
            self._listener.received(messages)

    def _refuse(self, why: str) -> None:
        if self._link is not None:
            self._link.send(Failure(0, "invalid", f"not Squall's protocol: {why}"))
            self._link.close()


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Who the kernel says is at the other end."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return Peer("unix", uid=struct.unpack("3i", raw)[1])
    name = transport.get_extra_info("peername")
    return Peer("tcp", address=str(name[0]) if name else "")
