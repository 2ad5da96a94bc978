"""WebSocket by uvicorn and starlette, through their public interfaces: where the fast way does not fit."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from starlette.websockets import WebSocketDisconnect

from squall.server.transport.link import Link, Wire

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from squall.server.connection import Acceptor
    from squall.server.transport.limits import Limits


async def converse(websocket: WebSocket, acceptor: Acceptor, limits: Limits, links: set[Link]) -> None:
    """One connection, from its upgrade to its end. uvicorn pings; `state` is what `http` put there."""
    link = Link(websocket.state.peer, acceptor, limits, links, websocket.state.known)
    wire = _PlainWire(websocket, websocket.state.transport)
    await websocket.accept()
    writer = asyncio.ensure_future(wire.write_all())
    try:
        link.open(wire)
        await _read_all(websocket, wire, link)
    finally:
        link.lost()
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer


async def _read_all(websocket: WebSocket, wire: _PlainWire, link: Link) -> None:
    while True:
        await wire.readable.wait()
        try:
            frame = await websocket.receive_bytes()
        except WebSocketDisconnect:
            return
        except KeyError:  # starlette's way to say that it was text
            link.refuse("a WebSocket frame that is not binary")
            continue
        link.received(frame)


class _PlainWire(Wire):
    def __init__(self, websocket: WebSocket, transport: asyncio.Transport) -> None:
        self._websocket = websocket
        self._transport = transport
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._code: int | None = None
        self.readable = asyncio.Event()
        self.readable.set()

    async def write_all(self) -> None:
        """A task: what is queued, and the farewell behind it."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):  # gone; the reader hears of it
            while True:
                while self._queue:
                    frame = self._queue.popleft()
                    await self._websocket.send_bytes(frame)
                    self._size -= len(frame)
                if self._code is not None:
                    await self._websocket.close(self._code)
                    return
                self._news.clear()
                await self._news.wait()

    def write(self, frame: bytes) -> None:
        self._queue.append(frame)
        self._size += len(frame)
        self._news.set()

    def pending(self) -> int:
        return self._size + self._transport.get_write_buffer_size()

    def read(self, *, on: bool) -> None:
        if on:
            self.readable.set()
        else:
            self.readable.clear()

    def finish(self, code: int) -> None:
        self._code = code
        self._news.set()
        self.readable.set()  # to hear the peer's farewell

    def abort(self) -> None:
        self.readable.set()
        self._transport.abort()
