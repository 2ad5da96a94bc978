"""Where a server can be reached, and byte streams to it: TCP, TLS, Unix sockets, a container's socket.

A `Link` is one connection. One thread at a time receives and one at a time sends; they may be two.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from squall.runner.protocol import CLIENT
from squall.wire.codec import ProtocolError
from squall.wire.framing import LengthFraming
from squall.wire.websocket import ClientWebSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squall.wire.framing import Framing

#: How much is read at once, in bytes.
RECEIVE = 256 << 10
#: A Unix socket's address has room for so many bytes, and some.
_ADDRESS_LIMIT = 100


@dataclass(frozen=True)
class Endpoint:
    """One way to a server: a Unix socket's `path` (of a container with `nested`), or `host` and `port`.

    `hint` is what a user can do when nobody answers; `prepare` is called before each attempt to connect.
    """

    address: str
    hint: str
    path: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False
    nested: bool = False
    prepare: Callable[[], None] | None = field(default=None, compare=False)

    @property
    def comes_back(self) -> bool:
        """Whether who answers there is started again when it dies; elsewhere the address may be wrong."""
        return self.nested or self.prepare is not None

    def framing(self) -> Framing:
        if self.nested:
            return LengthFraming(CLIENT)
        if self.path:
            return ClientWebSocket("localhost", mask=False)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return ClientWebSocket(f"{host}:{self.port}", mask=not self.tls)

    def tls_context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context() if self.tls else None


class _Tls:
    """TLS over in-memory buffers: an SSL socket must not be read and written by two threads at once."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._lock = threading.Lock()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)

    def handshake(self, sock: socket.socket) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:  # noqa: PERF203 - that is how it goes on
                sock.sendall(self._out.read())
                self._in.write(_receive(sock))
            else:
                sock.sendall(self._out.read())
                return

    def encrypt(self, data: bytes) -> bytes:
        with self._lock:
            self._tls.write(data)
            return self._out.read()

    def decrypt(self, data: bytes) -> bytes:
        with self._lock:
            self._in.write(data)
            pieces = []
            with contextlib.suppress(ssl.SSLWantReadError):
                while piece := self._tls.read(RECEIVE):
                    pieces.append(piece)
            return b"".join(pieces)


class Link:
    """One connection, opened by `dial`."""

    def __init__(self, sock: socket.socket, framing: Framing, tls: _Tls | None) -> None:
        self._socket = sock
        self._framing = framing
        self._tls = tls
        self._wait = _waiter(sock)
        #: The session's number of this connection.
        self.generation = 0
        #: What the framing wants sent (answers to pings), besides frames.
        self.control: deque[bytes] = deque()

    def open(self) -> list[bytes]:
        """The framing's handshake, within the socket's timeout. Returns frames that came right behind it."""
        self._send(self._framing.opening())
        frames: list[bytes] = []
        while not self._framing.open:
            frames += self.receive()
        self._socket.settimeout(None)
        return frames

    def wait(self, timeout: float | None) -> bool:
        """Whether there is something to receive, within so many seconds."""
        return self._wait(timeout)

    def receive(self) -> list[bytes]:
        """Receive once. Raises OSError when the connection is gone, ProtocolError for nonsense."""
        if self._framing.farewell is not None:
            raise ConnectionResetError(self._framing.farewell)
        data = _receive(self._socket)
        frames = self._framing.feed(self._tls.decrypt(data) if self._tls else data)
        if reply := self._framing.replies():
            self.control.append(reply)
        return frames

    def send_frame(self, payload: bytes) -> None:
        self._send(self._framing.frame(payload))

    def send_control(self) -> None:
        while self.control:
            self._send(self.control.popleft())

    def ping(self) -> bool:
        """Queue a ping, where the transport has such a thing."""
        ping = self._framing.ping()
        if ping:
            self.control.append(ping)
        return bool(ping)

    def close(self, *, farewell: bool = False) -> None:
        with contextlib.suppress(OSError):
            if farewell:
                self._socket.setblocking(False)
                self._send(self._framing.closing())
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever sends or waits on it
        self._socket.close()

    def abandon(self) -> None:
        """Close this process's copy only: the connection belongs to the process that forked it."""
        self._socket.close()

    def _send(self, data: bytes) -> None:
        if data:
            self._socket.sendall(self._tls.encrypt(data) if self._tls else data)


def dial(endpoint: Endpoint, timeout: float) -> tuple[Link, list[bytes]]:
    """Connect, with the frames that came at once. Raises OSError, ProtocolError, Refused, exception.Error."""
    if endpoint.prepare is not None:
        endpoint.prepare()
    sock = _connect(endpoint, timeout)
    try:
        sock.settimeout(timeout)
        tls = None
        context = endpoint.tls_context()
        if context is not None:
            tls = _Tls(context, endpoint.host)
            tls.handshake(sock)
        link = Link(sock, endpoint.framing(), tls)
        return link, link.open()
    except BaseException:
        sock.close()
        raise


def _connect(endpoint: Endpoint, timeout: float) -> socket.socket:
    if not endpoint.path:
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("this system has no Unix sockets")
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        with reachable(endpoint.path) as name:
            sock.connect(name)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def reachable(path: str) -> Iterator[str]:
    """A name for a socket that the kernel takes however long its path is (107 bytes). Raises OSError."""
    if len(os.fsencode(path)) < _ADDRESS_LIMIT:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def _receive(sock: socket.socket) -> bytes:
    data = sock.recv(RECEIVE)
    if not data:
        raise ConnectionResetError("the server closed the connection")
    return data


def _waiter(sock: socket.socket) -> Callable[[float | None], bool]:
    """Waits for readability. Not by the socket's own timeout: a sender in another thread has none."""
    if not hasattr(select, "poll"):  # Windows
        return lambda timeout: bool(select.select([sock], [], [], timeout)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return lambda timeout: bool(poll.poll(None if timeout is None else max(0, timeout * 1000)))


def unreachable(endpoint: Endpoint, error: BaseException) -> str:
    """One line for a user: what happened, and what to do."""
    if isinstance(error, ProtocolError):
        reason = str(error)
    elif isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its certificate is not trusted ({error.verify_message})"
    elif isinstance(error, TimeoutError):
        reason = "no answer in time"
    else:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"Cannot reach the Squall server at {endpoint.address}: {reason}. {endpoint.hint}"
