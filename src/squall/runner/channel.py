"""The runner's end of the socket to the agent: blocking, and it comes back after the agent does."""

from __future__ import annotations

import array
import os
import select
import socket
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from squall.runner import protocol
from squall.runner.protocol import Frame, memfd
from squall.runner.protocol.spool import MemoryFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squall.runner.protocol.spool import Pickled

_CHUNK = 256 << 10
#: Without an agent for so long (seconds), the container is given up: the node's lease is shorter.
AGENT_PATIENCE = 90.0
RETRY = 0.05
#: A socket address has room for so many bytes.
_ADDRESS_LIMIT = 100


class AgentGoneError(Exception):
    """No agent came back in time."""


class LostError(Exception):
    """The connection is lost."""


class Channel:
    """Frames to and from the agent. `on_connect` gives the frames that open a connection.

    A lost connection is made again inside `send` and `receive`; what could not be sent is sent then, except
    READY: the next agent asks anew by its CONFIG. Without `reconnects` they raise LostError instead.
    """

    def __init__(self, path: str) -> None:
        self.on_connect: Callable[[], bytes] = bytes
        #: Told of the descriptor of a connection before it is closed.
        self.on_drop: Callable[[int], object] = int
        self.reconnects = True
        self._path = path
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._frames = protocol.Unframer()
        self._descriptors: deque[int] = deque()
        self._buffer = bytearray(_CHUNK)
        self._room = socket.CMSG_SPACE(4 * 4)

    def connect(self) -> None:
        """Connect and say hello. Raises AgentGoneError."""
        deadline = time.monotonic() + AGENT_PATIENCE
        while not self.try_connect():
            if time.monotonic() > deadline:
                raise AgentGoneError(f"no agent answers at {self._path}")
            time.sleep(RETRY)

    def try_connect(self) -> bool:
        """Connect and say hello, if there is an agent."""
        self._drop()
        try:
            self._socket = _connected(self._path)
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)
            self._socket.sendall(self.on_connect())
        except OSError:
            return False
        return True

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def wait(self) -> None:
        """Until there is something to receive. Consumes nothing, so a signal handler may raise out of it."""
        if self._socket is not None:
            self._poll.poll()

    def send(
        self, kind: int, number: int = 0, header: dict[str, Any] | None = None, payload: Pickled = b""
    ) -> None:
        """One frame; a large payload goes in a memory file."""
        if isinstance(payload, bytes) and len(payload) <= protocol.INLINE:
            self._send(protocol.encode(kind, number, header, payload), [], again=kind != protocol.READY)
            return
        file = MemoryFile(memfd.of([payload]), len(payload)) if isinstance(payload, bytes) else payload
        frame = protocol.encode(kind, number, {**(header or {}), "fd": True, "size": file.size})
        self._send(frame, [file.fd])

    def receive(self) -> Frame:
        """The next frame; after a reconnect, the agent's next one."""
        while True:
            frame = self._frames.next()
            if frame is not None:
                return frame
            self._fill()

    def received(self) -> Iterator[Frame]:
        """The frames that are here already, without waiting for one."""
        while True:
            while (frame := self._frames.next()) is not None:
                yield frame
            if self._socket is not None and not self._poll.poll(0):
                return
            self._fill()

    def descriptor(self) -> int:
        """The next descriptor that came along; the caller owns it."""
        return self._descriptors.popleft()

    def payload(self, frame: Frame) -> bytes | memoryview:
        """The payload of a frame, out of its memory file if it has one."""
        if not frame.header.get("fd"):
            return frame.payload
        fd = self.descriptor()
        file = MemoryFile(fd, os.fstat(fd).st_size)
        return file.view() if file.size else b""

    def _send(self, data: bytes, descriptors: list[int], *, again: bool = True) -> None:
        while True:
            try:
                self._send_once(data, descriptors)
                return
            except OSError:  # noqa: PERF203 - once, as a rule
                self._reconnect()
                if not again:
                    return

    def _send_once(self, data: bytes, descriptors: list[int]) -> None:
        if self._socket is None:
            raise ConnectionResetError
        sent = 0
        if descriptors:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
            sent = self._socket.sendmsg([data], [rights])
        self._socket.sendall(memoryview(data)[sent:])

    def _fill(self) -> None:
        try:
            size = self._receive_some()
        except OSError:
            size = 0
        if size:
            self._frames.feed(bytes(memoryview(self._buffer)[:size]))
        else:
            self._reconnect()

    def _reconnect(self) -> None:
        if not self.reconnects:
            raise LostError
        self.connect()

    def _receive_some(self) -> int:
        if self._socket is None:
            return 0
        size, ancillary, _, _ = self._socket.recvmsg_into([self._buffer], self._room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._descriptors.extend(array.array("i", data[: len(data) // 4 * 4]))
        return size

    def _drop(self) -> None:
        """Forget the old connection and all that it left half done."""
        if self._socket is not None:
            self.on_drop(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._frames = protocol.Unframer()
        while self._descriptors:
            with suppress(OSError):
                os.close(self._descriptors.popleft())


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if len(os.fsencode(path)) < _ADDRESS_LIMIT:
            connection.connect(path)
        else:
            _connect_through_folder(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_through_folder(connection: socket.socket, path: str) -> None:
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)
