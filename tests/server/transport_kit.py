"""A control plane that records and answers, a running transport, a WebSocket client that can misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from squall.server.connection import Acceptor, Listener
from squall.wire import codec
from squall.wire.messages import Failure, Hello, Request, Response, Welcome
from squall.wire.values import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from squall.server.connection import Connection
    from squall.server.transport.serve import Transport

HELLO = Hello(PROTOCOL, "client", "0", token="sq-x")
WELCOME = Welcome("se-1", "0", "default", "main")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
#: Longer than anything here takes: nothing waits for it unless it fails.
PATIENCE = 20.0


class Conversation(Listener):
    """Answers Hello and requests; with `mute`, nothing."""

    def __init__(self, connection: Connection, control: Control) -> None:
        self.connection = connection
        self.control = control
        self.frames: list[list[Any]] = []
        self.news = asyncio.Event()
        self.gone = asyncio.Event()
        self.ends = 0

    def received(self, messages: Sequence[Any]) -> None:
        assert not self.gone.is_set()
        self.frames.append(list(messages))
        self.news.set()
        for message in messages:
            if self.control.mute:
                return
            if isinstance(message, Hello):
                self.connection.send(WELCOME)
            elif message.method == "raise":
                raise RuntimeError("a bug of the control plane's")
            else:
                self.connection.send(Response(message.id, message.body))

    def closed(self) -> None:
        self.ends += 1
        self.gone.set()

    async def heard(self, frames: int) -> None:
        while len(self.frames) < frames:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), PATIENCE)


class Control(Acceptor):
    def __init__(self) -> None:
        self.mute = False
        self.conversations: list[Conversation] = []

    def accept(self, connection: Connection) -> Listener:
        self.conversations.append(Conversation(connection, self))
        return self.conversations[-1]

    @property
    def last(self) -> Conversation:
        return self.conversations[-1]


@dataclass
class Server:
    transport: Transport
    control: Control
    path: str
    task: asyncio.Task[None]

    @property
    def port(self) -> int:
        assert self.transport.port is not None
        return self.transport.port

    async def stop(self) -> None:
        self.transport.stop()
        await asyncio.wait_for(self.task, PATIENCE)


@contextlib.asynccontextmanager
async def running(
    path: str, transport: Transport, tcp: tuple[str, int] | None = ("127.0.0.1", 0)
) -> AsyncIterator[Server]:
    control, ready = Control(), asyncio.Event()
    task = asyncio.ensure_future(transport.serve(control, path, tcp, ready.set))
    listening = asyncio.ensure_future(ready.wait())
    await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    if task.done():
        task.result()
    server = Server(transport, control, path, task)
    try:
        yield server
    finally:
        await Client.close_all()
        if not task.done():
            await server.stop()


class Closed(Exception):
    """The server has closed; its code, or 0 without a farewell."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code} {reason}")
        self.code = code


@dataclass
class Client:
    """Answers no pings unless `polite`."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0
    body: str = ""
    polite: bool = True
    pings: int = 0
    inbox: list[Any] = field(default_factory=list)

    @classmethod
    async def connect(cls, where: str | int) -> Client:
        if isinstance(where, str):
            made = cls(*await asyncio.open_unix_connection(where))
        else:
            made = cls(*await asyncio.open_connection("127.0.0.1", where))
        _clients.append(made)
        return made

    @staticmethod
    async def close_all() -> None:
        for client in _clients:
            client.writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()
        _clients.clear()

    @classmethod
    async def websocket(
        cls, where: str | int, headers: dict[str, str] | None = None, *, polite: bool = True
    ) -> Client:
        client = await cls.connect(where)
        client.polite = polite
        await client.request("/rpc", {**UPGRADE, **(headers or {})})
        return client

    @classmethod
    async def greeted(cls, where: str | int, *, polite: bool = True) -> Client:
        client = await cls.websocket(where, polite=polite)
        assert client.status == 101, client.body
        client.send(HELLO)
        assert await client.receive() == WELCOME
        return client

    async def request(self, path: str, headers: dict[str, str], method: str = "GET") -> int:
        lines = [f"{method} {path} HTTP/1.1"]
        if "Host" not in headers:
            lines.append("Host: localhost")
        lines += [f"{name}: {value}" for name, value in headers.items() if value]
        return await self.answer("\r\n".join([*lines, "", ""]).encode())

    async def answer(self, raw: bytes) -> int:
        """Send it and read the response."""
        self.writer.write(raw)
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        self.status = int(head.split()[1])
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                self.body = (await self.reader.readexactly(int(line.partition(b":")[2]))).decode()
        return self.status

    def take_little(self) -> None:
        """A small buffer in the kernel, so that the server sees how slowly this is read."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)

    # -------------------------------------------------------------------------------------------- sending

    def send(self, *messages: object) -> None:
        self.frame(BINARY, codec.encode(messages))

    def ask(self, number: int, body: bytes = b"") -> None:
        self.send(Request(number, "echo", body))

    def frame(
        self, opcode: int, payload: bytes = b"", *, last: bool = True, mask: bool = True, length: int = -1
    ) -> None:
        """`length` lies about the payload's."""
        size = len(payload) if length < 0 else length
        first, bit = opcode | (0x80 if last else 0), 0x80 if mask else 0
        if size <= 125:
            head = struct.pack(">BB", first, bit | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", first, bit | 126, size)
        else:
            head = struct.pack(">BBQ", first, bit | 127, size)
        self.writer.write(head + (bytes(4) if mask else b"") + payload)

    # ------------------------------------------------------------------------------------------- receiving

    async def receive(self) -> Any:
        """The next message. Raises Closed."""
        while not self.inbox:
            self.inbox += codec.decode(await self.receive_frame())
        return self.inbox.pop(0)

    async def receive_frame(self) -> bytes:
        while True:
            opcode, payload = await asyncio.wait_for(self._frame(), PATIENCE)
            if opcode == BINARY:
                return payload
            if opcode == CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                raise Closed(code, payload[2:].decode())
            if opcode == PING:
                self.pings += 1
                if self.polite:
                    self.frame(PONG, payload)

    async def _frame(self) -> tuple[int, bytes]:
        try:
            first, size = await self.reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack(">H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", await self.reader.readexactly(8))
            return first & 15, await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Closed(0, str(error)) from None

    async def end(self) -> int:
        """Everything until the server closes; the messages are in the inbox. Returns the code."""
        while True:
            try:
                self.inbox += codec.decode(await self.receive_frame())
            except Closed as closed:  # noqa: PERF203 - that is how it ends
                return closed.code

    def failure(self) -> Failure:
        found = [message for message in self.inbox if isinstance(message, Failure)]
        assert len(found) == 1, self.inbox
        assert "\n" not in found[0].message
        return found[0]

    def close(self) -> None:
        self.writer.close()


_clients: list[Client] = []


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
