"""Large payloads from and to a server on this host, by descriptor (`wire.parcels`). Never mapped here."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from squall.runner.protocol import memfd
from squall.wire import codec, parcels
from squall.wire.parcels import Answer, Ask

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Without an answer for so long (seconds), the server is gone.
PATIENCE = 10.0
_RIGHTS = socket.CMSG_SPACE(4)

Answered = tuple[Answer, int]


class Parcels:
    """`path` is the server's Unix socket, empty for one elsewhere. What was lent is lent again to the next
    server (`again`), until it is dropped.
    """

    def __init__(self, path: str) -> None:
        self.possible = bool(path)
        self._path = parcels.socket_path(path)
        self._socket: socket.socket | None = None
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Answered]] = {}
        #: (workspace, descriptor) by name.
        self._lent: dict[str, tuple[str, int]] = {}

    async def lend(self, workspace: str, fd: int) -> str:
        """The parcel of a sealed memory file, which is ours from now on.

        Empty when the server cannot take it, and the file stays the caller's.
        """
        name = parcels.new_name()
        try:
            answer, _ = await self._ask("put", name, workspace, fd)
        except OSError:
            return ""
        except asyncio.CancelledError:
            self._say_drop(name)
            raise
        if answer.code:
            return ""
        self._lent[name] = workspace, fd
        return name

    async def fetch(self, workspace: str, name: str) -> int | None:
        """The memory file of a parcel, the caller's; None if the server does not have it. Raises OSError."""
        _, fd = await self._ask("get", name, workspace)
        if fd < 0:
            return None
        if memfd.frozen_size(fd) is None:
            os.close(fd)
            raise OSError("a parcel that can change")
        return fd

    async def take(self, workspace: str, name: str) -> int | None:
        """The socket of a direct call, the caller's; None if the server does not have it. Raises OSError."""
        _, fd = await self._ask("take", name, workspace)
        return fd if fd >= 0 else None

    def drop(self, name: str) -> None:
        """The server has what it needs of it."""
        lent = self._lent.pop(name, None)
        if lent is None:
            return
        os.close(lent[1])
        self._say_drop(name)

    def _say_drop(self, name: str) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._send(Ask("drop", 0, name))

    async def again(self) -> None:
        """A new connection: another server may be behind it."""
        self._disconnect()
        for name, (workspace, fd) in list(self._lent.items()):
            if name in self._lent:
                with suppress(OSError):
                    await self._ask("put", name, workspace, fd)

    @property
    def lends(self) -> bool:
        return bool(self._lent)

    def close(self) -> None:
        self._disconnect()
        for _, fd in self._lent.values():
            os.close(fd)
        self._lent.clear()

    async def _ask(self, op: str, name: str, workspace: str, fd: int = -1) -> Answered:
        """The answer, and the descriptor that came with it or -1. Raises OSError."""
        if self._socket is None:
            self._connect()
        self._number += 1
        answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        number = self._number
        self._waiting[number] = answered
        try:
            self._send(Ask(op, number, name, workspace), fd)
            return await asyncio.wait_for(answered, PATIENCE)
        except asyncio.TimeoutError:
            self._disconnect()
            raise OSError("the server does not answer") from None
        finally:
            self._waiting.pop(number, None)

    def _send(self, ask: Ask, fd: int = -1) -> None:
        assert self._socket is not None
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        try:
            self._socket.sendmsg([codec.pack(ask)], rights)
        except OSError:
            self._disconnect()
            raise

    def _connect(self) -> None:
        if not self.possible:
            raise OSError("the server is not on this host")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data, ancillary, _, _ = self._socket.recvmsg(parcels.PACKET, _RIGHTS, socket.MSG_CMSG_CLOEXEC)
            answer = codec.unpack(data, Answer)
        except BlockingIOError:
            return
        except (OSError, codec.ProtocolError):
            self._disconnect()
            return
        fd = _descriptor(ancillary)
        waiting = self._waiting.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result((answer, fd))
        elif fd >= 0:
            os.close(fd)

    def _disconnect(self) -> None:
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        waiting, self._waiting = self._waiting, {}
        _fail(waiting.values())


def _fail(waiting: Iterable[asyncio.Future[Answered]]) -> None:
    for answered in waiting:
        if not answered.done():
            answered.set_exception(ConnectionResetError("the server closed the connection"))


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) >= 4:
            return array.array("i", data[:4])[0]
    return -1
