"""The second Unix socket: parcels, by descriptor (`wire.parcels`). For whom the first one is for.

Who may open the embedded socket may be client and node, of any workspace; so may they here.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING

from squall.server.names import Refusal
from squall.server.transport.peers import uid_of
from squall.server.transport.sockets import listen_unix
from squall.wire import codec
from squall.wire.parcels import PACKET, Answer, Ask

if TYPE_CHECKING:
    from squall.server.parcels import Parcels

log = logging.getLogger("squall.server.transport")

#: Connections at a time.
LINES = 1024
#: Packets of one peer that are handled before others have their turn.
_TURN = 16
#: Room for more descriptors than the one that a packet may bring: those are closed.
_RIGHTS = socket.CMSG_SPACE(4 * 8)


class Lines:
    """`workspace` is that of clients, which name none."""

    def __init__(self, parcels: Parcels, workspace: str, uids: frozenset[int]) -> None:
        self._parcels = parcels
        self._workspace = workspace
        self._uids = uids
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._path = ""
        self._lines: set[_Line] = set()

    def listen(self, path: str, *, others: bool = False) -> None:
        """Raises sockets.ListenError."""
        self._path = path
        self._socket = listen_unix(path, others=others, kind=socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        for line in list(self._lines):
            line.close()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            connection, _ = self._socket.accept()
        except OSError:  # none is there after all, or there are too many files open: the peer tries again
            return
        uid = uid_of(connection)
        if uid not in self._uids or len(self._lines) >= LINES:
            connection.close()
            return
        self._lines.add(_Line(self._loop, connection, self._parcels, self._workspace, self._lines))


class _Line:
    """One peer. What it has put is held until it says otherwise, or is gone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        parcels: Parcels,
        workspace: str,
        lines: set[_Line],
    ) -> None:
        connection.setblocking(False)
        self._loop = loop
        self._socket = connection
        self._parcels = parcels
        self._workspace = workspace
        self._lines = lines
        self._held: set[str] = set()
        loop.add_reader(connection.fileno(), self._readable)

    def close(self) -> None:
        if self not in self._lines:
            return
        self._lines.discard(self)
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._parcels.release_all(self._held, self)
        self._held.clear()

    def _readable(self) -> None:
        for _ in range(_TURN):
            if self not in self._lines or not self._take_one():
                return

    def _take_one(self) -> bool:
        """False when there is nothing more for now."""
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(PACKET, _RIGHTS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        except OSError:
            data, ancillary, flags = b"", [], 0
        files = _descriptors(ancillary)
        try:
            ask = codec.unpack(data, Ask) if data else None
        except codec.ProtocolError:
            ask = None
        if ask is None or flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC) or len(files) > 1:
            _close_all(files)
            self.close()
            return False
        try:
            self._answer(ask, files)
        finally:
            _close_all(files)
        return True

    def _answer(self, ask: Ask, files: list[int]) -> None:
        """What it leaves in `files` is closed once the answer has left."""
        workspace = ask.workspace or self._workspace
        fd = -1
        answer = Answer(ask.number)
        try:
            if ask.op == "put" and files:
                self._parcels.put(workspace, ask.parcel, files.pop(), self)
                self._held.add(ask.parcel)
            elif ask.op == "get":
                fd = self._parcels.get(workspace, ask.parcel)
            elif ask.op == "take":
                fd = self._parcels.take(workspace, ask.parcel)
                files.append(fd)
            elif ask.op == "drop":
                self._held.discard(ask.parcel)
                self._parcels.release(ask.parcel, self)
                return
            else:
                raise Refusal("invalid", f"no way to ask for a parcel: {ask.op[:20]!r}")
        except Refusal as refusal:
            answer = Answer(ask.number, refusal.code, refusal.message)
        self._send(answer, fd)

    def _send(self, answer: Answer, fd: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        try:
            self._socket.sendmsg([codec.pack(answer)], rights)
        except OSError:  # it is gone, or asks and does not listen
            self.close()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.extend(array.array("i", data[: len(data) // 4 * 4]))
    return found


def _close_all(files: list[int]) -> None:
    for fd in files:
        os.close(fd)
