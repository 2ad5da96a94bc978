"""Clients inside a container: their frames are relayed to the server, which takes them for the container.

Whole frames only, bounded in size and number; while the server reads slowly, so do we.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

from squall.wire.messages import Nested

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

#: Connections of one container; bytes of a frame from inside, and of those that a client does not read.
CONNECTIONS = 32
FRAME = 8 << 20
UNREAD = 64 << 20
_CHUNK = 256 << 10
#: Frames relayed a turn.
_FRAMES = 64
_LENGTH = struct.Struct(">I")


class NestedClients:
    """Those of one container. `send` takes a message for the server."""

    def __init__(self, container: str, send: Callable[[Nested], None]) -> None:
        self._container = container
        self._send = send
        self._numbers = count(1)
        self._clients: dict[int, _Client] = {}
        self._paused: set[str] = set()

    def accept(self, connection: socket.socket) -> None:
        if len(self._clients) >= CONNECTIONS:
            connection.close()
            return
        number = next(self._numbers)
        self._clients[number] = client = _Client(self, number, connection)
        if self._paused:
            client.pause()

    def received(self, message: Nested) -> None:
        """A frame for a client, or (empty) its end."""
        client = self._clients.get(message.connection)
        if client is None:
            return
        if message.data:
            client.send(message.data)
        else:
            self.end(message.connection, tell=False)

    def relay(self, number: int, frame: bytes) -> None:
        self._send(Nested(self._container, number, frame))

    def end(self, number: int, *, tell: bool = True) -> None:
        client = self._clients.pop(number, None)
        if client is None:
            return
        client.close()
        if tell:
            self._send(Nested(self._container, number, b""))

    def pause(self, why: str) -> None:
        """Read nothing while there is a reason."""
        self._paused.add(why)
        for client in self._clients.values():
            client.pause()

    def resume(self, why: str) -> None:
        self._paused.discard(why)
        if not self._paused:
            for client in self._clients.values():
                client.resume()

    def close(self, *, tell: bool = False) -> None:
        """All of them: the container is gone, or (they come back by themselves) the server."""
        for number in list(self._clients):
            self.end(number, tell=tell)


class _Client:
    """One connection: `u32 length | frame` both ways."""

    def __init__(self, owner: NestedClients, number: int, connection: socket.socket) -> None:
        self._owner = owner
        self._number = number
        self._socket = connection
        self._fd = connection.fileno()
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._reading = False
        connection.setblocking(False)
        self.resume()

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)
            if self._whole():
                self._loop.call_soon(self._readable)

    def close(self) -> None:
        self.pause()
        self._loop.remove_writer(self._fd)
        self._socket.close()

    def send(self, frame: bytes) -> None:
        data = _LENGTH.pack(len(frame)) + frame
        self._unsent_bytes += len(data)
        if self._unsent_bytes > UNREAD:
            self._owner.end(self._number)
            return
        self._unsent.append(data)
        if len(self._unsent) == 1:
            self._write()

    def _readable(self) -> None:
        """Bounded work: what is left of a chunk full of tiny frames follows in the next turn."""
        if not self._reading:
            return
        if not self._whole():
            try:
                data = self._socket.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._owner.end(self._number)
                return
            self._buffer += data
        self._relay_some()

    def _whole(self) -> bool:
        """Whether a frame has come, or what can be none."""
        if len(self._buffer) < _LENGTH.size:
            return False
        (length,) = _LENGTH.unpack_from(self._buffer)
        return not 0 < length <= FRAME or len(self._buffer) >= _LENGTH.size + length

    def _relay_some(self) -> None:
        at = 0
        for _ in range(_FRAMES):
            if len(self._buffer) - at < _LENGTH.size:
                break
            (length,) = _LENGTH.unpack_from(self._buffer, at)
            if not 0 < length <= FRAME:
                self._owner.end(self._number)
                return
            end = at + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            self._owner.relay(self._number, bytes(memoryview(self._buffer)[at + _LENGTH.size : end]))
            at = end
        del self._buffer[:at]
        if self._whole():
            self._loop.call_soon(self._readable)

    def _write(self) -> None:
        while self._unsent:
            data = self._unsent[0]
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                self._loop.add_writer(self._fd, self._writable)
                return
            except OSError:  # the reader sees the end too
                self._unsent.clear()
                self._unsent_bytes = 0
                return
            self._unsent_bytes -= sent
            if sent == len(data):
                self._unsent.popleft()
            else:
                self._unsent[0] = data[sent:]

    def _writable(self) -> None:
        self._loop.remove_writer(self._fd)
        self._write()
