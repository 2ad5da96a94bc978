"""A server for one node, as tests want it: it does nothing by itself but welcome, heartbeats and blobs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
import time
from typing import TYPE_CHECKING, Any, TypeVar

from squall.wire import codec
from squall.wire import messages as m
from squall.wire.hashing import blob_id
from tests.house.slowness import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
TIMEOUT = 60.0 * SLOWNESS
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, for as long as a test may take."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.02)


class FakeServer:
    """`messages` has all that came, `expect` waits for more of it. Outputs are durable unless `forgetful`."""

    def __init__(self, path: Path, *, heartbeat: float = 0.1, lease: float = 30.0) -> None:
        self.path = path
        self.heartbeat = heartbeat
        self.lease = lease
        self.messages: list[Any] = []
        self.blobs: dict[str, bytes] = {}
        self.refusal: m.Failure | None = None
        self.answers_heartbeats = True
        self.confirms = True
        self.reading = asyncio.Event()
        self.reading.set()
        self._news = asyncio.Condition()
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None
        self._uploads: dict[int, bytearray] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._connected, str(self.path))

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.drop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self) -> None:
        """Cut the connection."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    def send(self, *messages: object) -> None:
        assert self._writer is not None
        self._writer.write(_frame(codec.encode(messages)))

    async def expect(self, kind: type[T], *, after: int = 0, **fields: Any) -> T:
        """The first message of this kind with these fields, from the `after`-th message on."""

        def find() -> T | None:
            for message in self.messages[after:]:
                if isinstance(message, kind) and all(getattr(message, k) == v for k, v in fields.items()):
                    return message
            return None

        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(lambda: find() is not None), TIMEOUT)
            except asyncio.TimeoutError:
                seen = [type(x).__name__ for x in self.messages if not isinstance(x, m.Heartbeat)]
                raise AssertionError(f"no {kind.__name__} {fields}; there were {seen[-20:]}") from None
        found = find()
        assert found is not None
        return found

    async def output(self, input_id: str, attempt: int = 1, *, after: int = 0) -> m.NodeOutput:
        """The output of this attempt."""

        def find() -> m.NodeOutput | None:
            outputs = (x for x in self.messages[after:] if isinstance(x, m.NodeOutputs))
            items = (item for message in outputs for item in message.items)
            return next((i for i in items if (i.input, i.attempt) == (input_id, attempt)), None)

        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(lambda: find() is not None), TIMEOUT)
            except asyncio.TimeoutError:
                last = [x for x in self.messages if not isinstance(x, m.Heartbeat)][-6:]
                raise AssertionError(f"no output of {input_id}; last came {last}") from None
        found = find()
        assert found is not None
        return found

    def log(self, container: str, fd: int | None = None) -> bytes:
        """All that a container has printed so far."""
        items = [i for x in self.messages if isinstance(x, m.NodeLogs) for i in x.items]
        return b"".join(i.data for i in items if i.container == container and fd in {None, i.fd})

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(x for x in head.split(b"\r\n") if x.lower().startswith(b"sec-websocket-key:")).split()[-1]
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        while (frame := await _read(reader)) is not None:
            for message in codec.decode(frame):
                await self._received(message, writer)
            await self.reading.wait()

    async def _received(self, message: Any, writer: asyncio.StreamWriter) -> None:
        async with self._news:
            self.messages.append(message)
            self._news.notify_all()
        if isinstance(message, m.Hello):
            self._welcome(writer)
        elif isinstance(message, m.Heartbeat) and self.answers_heartbeats:
            self.send(m.Heartbeat(message.number))
        elif isinstance(message, m.BlobFetch):
            self._give(message)
        elif isinstance(message, m.BlobChunk):
            self._take(message)
        elif isinstance(message, m.NodeOutputs) and self.confirms:
            self.send(m.OutputsDurable([(i.input, i.attempt) for i in message.items]))

    def _welcome(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        if self.refusal is not None:
            self.send(self.refusal)
            writer.close()
            return
        self.send(m.Welcome("se-1", "0", "default", "main", self.heartbeat, self.lease))

    def _give(self, message: m.BlobFetch) -> None:
        data = self.blobs.get(message.blob)
        if data is None:
            self.send(m.Failure(message.id, "not_found", f"no blob {message.blob[:12]} is here"))
            return
        half = len(data) // 2
        self.send(m.BlobChunk(message.id, message.blob, 0, data[:half]))
        self.send(m.BlobChunk(message.id, message.blob, half, data[half:], last=True))

    def _take(self, message: m.BlobChunk) -> None:
        upload = self._uploads.setdefault(message.id, bytearray())
        assert len(upload) == message.offset
        upload += message.data
        if message.last:
            assert blob_id(bytes(upload)) == message.blob
            self.blobs[message.blob] = bytes(self._uploads.pop(message.id))
            self.send(m.Response(message.id))


def _frame(payload: bytes) -> bytes:
    if len(payload) < 126:
        return struct.pack(">BB", 0x82, len(payload)) + payload
    if len(payload) < 1 << 16:
        return struct.pack(">BBH", 0x82, 126, len(payload)) + payload
    return struct.pack(">BBQ", 0x82, 127, len(payload)) + payload


async def _read(reader: asyncio.StreamReader) -> bytes | None:
    """A client's frame, whose mask is all zeros; None at its farewell."""
    first, length = await reader.readexactly(2)
    length &= 0x7F
    if length > 125:
        length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
    await reader.readexactly(4)
    payload = await reader.readexactly(length)
    return None if first & 15 == 8 else payload
