"""A scripted server for the client's tests: real sockets, WebSocket and codec, and answers as the test says.

It runs an asyncio loop in a thread of its own. A test may break connections, hold answers back and look at
what came.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from squall.client.transport import Endpoint
from squall.runner.protocol import CLIENT
from squall.wire import codec, control
from squall.wire import messages as m
from squall.wire.values import INLINE_LIMIT, Outcome, OutputItem, Payload
from squall.wire.websocket import masked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from ssl import SSLContext

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Peer:
    """One connection, from the server's side."""

    def __init__(
        self, server: FakeServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.session = ""
        self.pings = 0
        self.masks: set[bytes] = set()
        self.nested = False

    def send(self, *messages: object) -> None:
        payload = codec.encode(messages)
        self.write(struct.pack(">I", len(payload)) + payload if self.nested else frame(payload))

    def write(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)

    def drop(self) -> None:
        self.writer.transport.abort()

    async def serve(self) -> None:
        try:
            await self._open()
            while True:
                for message in codec.decode(await self._frame()):
                    self.server.got.append(message)
                    self.server.handle(self, message)
                await self.writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            self.drop()
        finally:
            self.server.peers.remove(self)

    async def _open(self) -> None:
        first = await self.reader.readexactly(4)
        if first == CLIENT[:4]:
            self.nested = True
            assert await self.reader.readexactly(len(CLIENT) - 4) == CLIENT[4:]
            return
        head = first + await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"GET /rpc HTTP/1.1\r\n")
        if self.server.http is not None:
            self.write(self.server.http)
            await self.writer.drain()
            raise OSError
        key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self.write(
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + accept
            + b"\r\n\r\n"
        )

    async def _frame(self) -> bytes:
        if self.nested:
            (length,) = struct.unpack(">I", await self.reader.readexactly(4))
            return await self.reader.readexactly(length)
        while True:
            first, second = await self.reader.readexactly(2)
            length = second & 127
            if length == 126:
                (length,) = struct.unpack(">H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", await self.reader.readexactly(8))
            key = await self.reader.readexactly(4)
            self.masks.add(key)
            payload = masked(await self.reader.readexactly(length), key)
            if first & 15 == 9:
                self.pings += 1
                if self.server.answer_pings:
                    self.write(frame(payload, 10))
            elif first & 15 == 8:
                raise OSError
            elif first & 15 == 2:
                return payload


def frame(payload: bytes, opcode: int = 2) -> bytes:
    if len(payload) < 126:
        return bytes((0x80 | opcode, len(payload))) + payload
    return struct.pack(">BBQ", 0x80 | opcode, 127, len(payload)) + payload


def result(index: int, data: bytes = b"", **more: Any) -> OutputItem:
    return OutputItem(index, Outcome("ok", Payload(data, size=len(data))), **more)


@dataclass
class FakeServer:
    """`answer` says what happens to each Inputs message; by default the inputs come back as results."""

    answer: Callable[[Peer, m.Inputs], None] | None = None
    refuse: m.Failure | None = None
    http: bytes | None = None
    answer_pings: bool = True
    heartbeat: float = 5.0
    forget_sessions: bool = False
    got: list[Any] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    on: dict[type, Callable[[Peer, Any], None]] = field(default_factory=dict)
    connections: int = 0
    largest_chunk: int = 0

    # ------------------------------------------------------------------------------------- for the test

    def start(
        self, path: Path | None = None, tls: SSLContext | None = None, *, nested: bool = False
    ) -> Endpoint:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._path, self._tls = path, tls
        self.port = 0
        self.listen()
        if path is not None:
            return Endpoint(str(path), "Start it.", path=str(path), nested=nested)
        address = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}"
        return Endpoint(address, "Check it.", host="127.0.0.1", port=self.port, tls=bool(tls))

    def listen(self) -> None:
        self.run(self._listen())

    def stop_listening(self) -> None:
        self.run(self._close())

    def stop(self) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def run(self, job: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result(10)

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run on the server's loop."""

        async def job() -> None:
            function(*arguments)

        self.run(job())

    def drop_all(self) -> None:
        self.call(self._each, Peer.drop)

    def push(self, *messages: object) -> None:
        self.call(self._each, lambda peer: peer.send(*messages))

    def _each(self, function: Callable[[Peer], None]) -> None:
        for peer in list(self.peers):
            function(peer)

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.got if isinstance(message, kind)]

    # ------------------------------------------------------------------------------------------ serving

    async def _listen(self) -> None:
        if self._path is not None:
            self._server = await asyncio.start_unix_server(self._accept, self._path, limit=1 << 20)
        else:
            self._server = await asyncio.start_server(
                self._accept, "127.0.0.1", self.port, ssl=self._tls, limit=1 << 20
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for peer in list(self.peers):
            peer.drop()
        while self.peers:  # noqa: ASYNC110 - their tasks end by themselves
            await asyncio.sleep(0.005)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(self, reader, writer)
        self.peers.append(peer)
        self.connections += 1
        with suppress(asyncio.CancelledError):
            await peer.serve()

    def handle(self, peer: Peer, message: Any) -> None:
        special, usual = self.on.get(type(message)), _HANDLERS.get(type(message))
        if special is not None:
            special(peer, message)
        elif usual is not None:
            usual(self, peer, message)

    def hello(self, peer: Peer, message: m.Hello) -> None:
        if self.refuse is not None:
            peer.send(self.refuse)
            peer.write(frame(struct.pack(">H", 1000), 8))
            return
        known = message.session and not self.forget_sessions
        peer.session = message.session if known else f"se-{self.connections}"
        peer.send(m.Welcome(peer.session, "1", "default", message.environment, heartbeat=self.heartbeat))

    def request(self, peer: Peer, message: m.Request) -> None:
        if message.method == "status":
            body = control.Status("1", 1, "default", "main", [], 0, 0, 0)
            peer.send(m.Response(message.id, codec.pack(body)))
        elif message.method == "session.close":
            peer.send(m.Response(message.id, codec.pack(control.Empty())))
        else:
            peer.send(m.Failure(message.id, "not_found", f"No method {message.method}."))

    def inputs(self, peer: Peer, message: m.Inputs) -> None:
        if self.answer is not None:
            self.answer(peer, message)
            return
        outputs = [OutputItem(i.index, Outcome("ok", i.payload), trace=i.trace) for i in message.items]
        peer.send(m.Outputs(message.call, outputs))

    def chunk(self, peer: Peer, message: m.BlobChunk) -> None:
        key = f"{id(peer)}:{message.id}"
        self.largest_chunk = max(self.largest_chunk, len(message.data))
        self.blobs[key] = self.blobs.get(key, b"") + message.data
        if message.last:
            data = self.blobs.pop(key)
            assert hashlib.sha256(data).hexdigest() == message.blob
            self.blobs[message.blob] = data
            peer.send(m.Response(message.id, codec.pack(control.Empty())))

    def fetch(self, peer: Peer, message: m.BlobFetch) -> None:
        data = self.blobs.get(message.blob)
        if data is None:
            peer.send(m.Failure(message.id, "not_found", "No such blob."))
            return
        for offset in range(0, len(data), INLINE_LIMIT):
            piece = data[offset : offset + INLINE_LIMIT]
            peer.send(
                m.BlobChunk(message.id, message.blob, offset, piece, offset + INLINE_LIMIT >= len(data))
            )


_HANDLERS: dict[type, Callable[[FakeServer, Peer, Any], None]] = {
    m.Hello: FakeServer.hello,
    m.Request: FakeServer.request,
    m.Inputs: FakeServer.inputs,
    m.BlobChunk: FakeServer.chunk,
    m.BlobFetch: FakeServer.fetch,
}
