"""Payloads between wire messages (inline or a blob of the server) and runners (inline or a memory file)."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from squall.node.direct import is_line
from squall.node.transfers import TransferError, digest
from squall.runner.protocol import INLINE, memfd
from squall.wire.parcels import is_name as is_parcel
from squall.wire.parcels import is_socket_name
from squall.wire.values import INLINE_LIMIT, PAYLOAD_LIMIT, Payload

if TYPE_CHECKING:
    from squall.node.parcels import Parcels
    from squall.node.transfers import Transfers


#: A client that comes back to a restarted server lends its arguments again within so many seconds.
LENT_AGAIN = 30.0
_PAUSE = 0.05


class Payloads:
    """Of one workspace. `lines`: the runner that gets them knows what to do with a direct call's socket."""

    def __init__(self, transfers: Transfers, workspace: str, parcels: Parcels) -> None:
        self.lines = False
        self._transfers = transfers
        self._workspace = workspace
        self._parcels = parcels

    async def fetch(self, payload: Payload) -> int:
        """A sealed memory file with the content of a blob, or a socket. Raises TransferError, OSError."""
        if is_socket_name(payload.blob):
            return await self._take(payload.blob)
        deadline = time.monotonic() + LENT_AGAIN
        while is_parcel(payload.blob):
            with suppress(OSError, TransferError):
                return await self._fetch_parcel(payload.blob)
            if time.monotonic() > deadline:
                raise TransferError("the client that lent them is gone")
            await asyncio.sleep(_PAUSE)
        return await self._download(payload.blob)

    async def _take(self, name: str) -> int:
        if not self.lines:
            raise TransferError("the container's runner is of an older version, which knows no direct calls")
        fd = await self._parcels.take(self._workspace, name)
        if fd is None:
            raise TransferError("the line is gone")
        if not is_line(fd):
            os.close(fd)
            raise TransferError("the line is no socket")
        return fd

    async def _fetch_parcel(self, name: str) -> int:
        if not self._parcels.possible:
            return await self._download(name)
        fd = await self._parcels.fetch(self._workspace, name)
        if fd is None:
            raise TransferError("no such parcel is here")
        return fd

    async def _download(self, blob: str) -> int:
        fd = memfd.create()
        try:
            await self._transfers.download(blob, self._workspace, fd, PAYLOAD_LIMIT)
            memfd.seal(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    async def content(self, payload: Payload) -> bytes:
        """All bytes of a payload. Raises TransferError, OSError."""
        if not payload.blob:
            return payload.data
        fd = await self.fetch(payload)
        try:
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    async def store(self, fd: int, *, passing: bool) -> Payload:
        """A sealed memory file as a blob of the server, or (`passing`, where possible) as a parcel.

        Takes the descriptor over. May raise TransferError.
        """
        size = os.fstat(fd).st_size
        try:
            if passing and self._parcels.possible:
                name = await self._parcels.lend(self._workspace, fd)
                if name:
                    fd = -1
                    return Payload(blob=name, size=size)
            blob = await asyncio.to_thread(digest, fd, size)
            await self._transfers.upload(blob, self._workspace, fd, size)
        finally:
            if fd >= 0:
                os.close(fd)
        return Payload(blob=blob, size=size)


def given(data: bytes) -> tuple[bytes, int | None]:
    """How bytes go to a runner: inline, or (then the first is empty) as a memory file."""
    return (data, None) if len(data) <= INLINE else (b"", memfd.of([data]))


def taken(data: bytes, fd: int | None, inline: int = INLINE_LIMIT) -> Payload | int:
    """What came from a runner: a payload, or the descriptor of one over `inline` bytes, for `store`.

    Closes the descriptor in the first case.
    """
    if fd is None:
        return Payload(data, size=len(data))
    size = os.fstat(fd).st_size
    if size > inline:
        return fd
    try:
        return Payload(os.pread(fd, size, 0), size=size)
    finally:
        os.close(fd)
