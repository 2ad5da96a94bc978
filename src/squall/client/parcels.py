"""Large payloads between this process and a server of the same host (`wire.parcels`): by descriptor."""

from __future__ import annotations

import array
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from squall.runner.protocol import memfd
from squall.runner.protocol.spool import MemoryFile
from squall.wire import codec, parcels
from squall.wire.parcels import Answer, Ask

if TYPE_CHECKING:
    from collections.abc import Iterable

#: An answer takes the server a wakeup; without one for so long (seconds), it is gone.
PATIENCE = 10.0
#: Room for one descriptor (CMSG_SPACE of an int, which Windows has not).
_RIGHTS = 24


class Parcels:
    """What this process lends and borrows. Threads take turns; nothing waits for long.

    `path` is the server's own socket, empty for a server elsewhere.
    """

    def __init__(self, path: str) -> None:
        self.possible = bool(path) and memfd.possible()
        self._path = parcels.socket_path(path)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._offers: dict[str, MemoryFile] = {}
        self._number = 0

    def offer(self, file: MemoryFile) -> str:
        """Its name as a parcel; empty if it cannot be one."""
        if not self.possible:
            return ""
        name = parcels.new_name()
        with self._lock:
            try:
                answer, _ = self._ask("put", name, file.fd)
            except OSError:
                return ""
            if answer.code:
                return ""
            self._offers[name] = file
        return name

    def offer_socket(self, sock: socket.socket) -> str:
        """As `offer`, of the argument of a direct call; it stays the caller's, to be closed."""
        name = parcels.new_socket_name()
        with self._lock:
            try:
                answer, _ = self._ask("put", name, sock.fileno())
            except OSError:
                return ""
        return "" if answer.code else name

    def fetch(self, parcel: str) -> memoryview | None:
        """The content of a result; None if the server does not have it (any more)."""
        with self._lock:
            try:
                _, fd = self._ask("get", parcel)
            except OSError:
                return None
        if fd < 0:
            return None
        size = memfd.frozen_size(fd)
        if size is None:  # it could change under a reader
            os.close(fd)
            return None
        return MemoryFile(fd, size).view()

    def drop(self, names: Iterable[str]) -> None:
        """Their inputs have ended."""
        with self._lock:
            for name in names:
                if self._offers.pop(name, None) is not None and self._socket is not None:
                    with suppress(OSError):
                        self._send(Ask("drop", 0, name))

    def again(self) -> None:
        """A new connection: another server may be behind it, which must get what the inputs need."""
        if not self._offers:
            return
        with self._lock, suppress(OSError):
            self._disconnect()
            for name, file in self._offers.items():
                self._ask("put", name, file.fd)

    def close(self) -> None:
        with self._lock:
            self._disconnect()
            self._offers.clear()

    def abandon(self) -> None:
        """In a forked child: without the lock, which another thread may have had."""
        self._disconnect()

    def _ask(self, op: str, name: str, fd: int = -1) -> tuple[Answer, int]:
        """The answer and the descriptor that came with it, or -1. Raises OSError.

        Once more on a new connection: a server that was restarted is another one.
        """
        for last in (False, True):
            try:
                return self._ask_once(op, name, fd)
            except OSError:  # noqa: PERF203 - once, as a rule
                self._disconnect()
                if last:
                    raise
        raise AssertionError("unreachable")

    def _ask_once(self, op: str, name: str, fd: int) -> tuple[Answer, int]:
        if self._socket is None:
            self._socket = _connected(self._path)
        self._number += 1
        self._send(Ask(op, self._number, name), fd)
        return self._receive(self._socket)

    def _send(self, ask: Ask, fd: int = -1) -> None:
        assert self._socket is not None
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        self._socket.sendmsg([codec.pack(ask)], rights)

    def _receive(self, sock: socket.socket) -> tuple[Answer, int]:
        while True:
            data, ancillary, _, _ = sock.recvmsg(parcels.PACKET, _RIGHTS)
            fd = _descriptor(ancillary)
            try:
                answer = codec.unpack(data, Answer)
            except codec.ProtocolError:
                answer = None
            if answer is not None and answer.number == self._number:
                return answer, fd
            if fd >= 0:
                os.close(fd)
            if answer is None:  # its end, or nonsense; else the answer to one who was interrupted
                raise ConnectionResetError("the server closed the connection")

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connected(path: str) -> socket.socket:
    from squall.client.transport import reachable

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.settimeout(PATIENCE)
        with reachable(path) as name:
            sock.connect(name)
    except BaseException:
        sock.close()
        raise
    return sock


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) >= 4:
            return array.array("i", data[:4])[0]
    return -1
