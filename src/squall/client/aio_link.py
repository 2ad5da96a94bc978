"""One connection on asyncio, with the framing that `transport.Link` has."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from squall.client import transport
from squall.wire.codec import ProtocolError
from squall.wire.websocket import Refused

if TYPE_CHECKING:
    from squall.client.transport import Endpoint
    from squall.wire.framing import Framing


class AsyncLink(asyncio.Protocol):
    """Opened by `dial`. Frames wait until `receive` takes them; the kernel holds back what is too much."""

    #: Frames that may wait before the connection is read no further.
    HIGH = 64

    def __init__(self, framing: Framing) -> None:
        self.generation = 0
        #: Whether `keep_alive` was called.
        self.alive = False
        self._framing = framing
        self._transport: asyncio.Transport | None = None
        self._frames: deque[bytes] = deque()
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self._paused = False
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------------------------- for the client

    async def opened(self) -> None:
        """Until the framing's handshake is done. Raises as `receive`."""
        while not self._framing.open:
            await self._hear()

    async def receive(self) -> bytes:
        """The next frame. Raises OSError when the connection is gone, ProtocolError for nonsense."""
        while not self._frames:
            await self._hear()
        frame = self._frames.popleft()
        if self._paused and not self._frames and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return frame

    def keep_alive(self, heartbeat: float, silent: int) -> None:
        """Ping each `heartbeat` seconds; without any sign of life for `silent` of them the link is lost."""
        self.alive = True
        if not self._framing.ping():
            return
        if time.monotonic() - self._heard > heartbeat * silent:
            self._end(ConnectionResetError("the server is silent"))
            return
        self._write(self._framing.ping())
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(heartbeat, self.keep_alive, heartbeat, silent)

    def send_frame(self, payload: bytes) -> None:
        self._write(self._framing.frame(payload))

    async def writable(self) -> None:
        """Until the kernel has taken most of what was sent. Silent on a lost connection."""
        await self._writable.wait()

    def close(self, *, farewell: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is None:
            return
        if farewell:
            self._write(self._framing.closing())
            self._transport.close()
        else:
            self._transport.abort()

    async def end(self, patience: float) -> None:
        """Say farewell and wait until the connection is gone, at the latest after `patience` seconds."""
        self.close(farewell=True)
        if self._transport is None:
            return
        try:
            await asyncio.wait_for(self._gone.wait(), patience)
        except asyncio.TimeoutError:
            self._transport.abort()
            await self._gone.wait()

    async def _hear(self) -> None:
        if self._error is None:
            await self._news.wait()
            self._news.clear()
        if self._error is not None and not self._frames:
            raise self._error

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # ---------------------------------------------------------------------------------------- for asyncio

    def connection_made(self, connection: asyncio.BaseTransport) -> None:
        assert isinstance(connection, asyncio.Transport)
        self._transport = connection
        self._heard = time.monotonic()
        self._write(self._framing.opening())

    def data_received(self, data: bytes) -> None:
        self._heard = time.monotonic()
        try:
            self._frames.extend(self._framing.feed(data))
        except (ProtocolError, Refused) as error:
            self._end(error)
            return
        self._write(self._framing.replies())
        if self._framing.farewell is not None:
            self._end(ConnectionResetError(self._framing.farewell))
        if len(self._frames) > self.HIGH and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._news.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionResetError("the server closed the connection"))
        self._gone.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _end(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._writable.set()
        self._news.set()


async def prepare(endpoint: Endpoint) -> None:
    """See Endpoint; the loop goes on meanwhile."""
    if endpoint.prepare is not None:
        await asyncio.get_running_loop().run_in_executor(None, endpoint.prepare)


async def dial(endpoint: Endpoint, timeout: float) -> AsyncLink:
    """As transport.dial, without the frames that came at once: `receive` gives them."""
    await prepare(endpoint)
    link = AsyncLink(endpoint.framing())
    try:
        await asyncio.wait_for(_open(endpoint, link), timeout)
    except asyncio.TimeoutError:
        link.close()
        raise TimeoutError("no answer in time") from None
    except BaseException:
        link.close()
        raise
    return link


async def _open(endpoint: Endpoint, link: AsyncLink) -> None:
    loop = asyncio.get_running_loop()
    if endpoint.path:
        with transport.reachable(endpoint.path) as path:
            await loop.create_unix_connection(lambda: link, path)
    else:
        context = endpoint.tls_context()
        name = endpoint.host if context else None
        await loop.create_connection(
            lambda: link, endpoint.host, endpoint.port, ssl=context, server_hostname=name
        )
    await link.opened()
