"""Payloads between wire messages (inline or a blob of the server) and runners (inline or a memory file)."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from squall.node.transfers import digest
from squall.runner.protocol import INLINE, memfd
from squall.wire.values import INLINE_LIMIT, PAYLOAD_LIMIT, Payload

if TYPE_CHECKING:
    from squall.node.transfers import Transfers


class Payloads:
    """Of one workspace."""

    def __init__(self, transfers: Transfers, workspace: str) -> None:
        self._transfers = transfers
        self._workspace = workspace

    async def fetch(self, payload: Payload) -> int:
        """A sealed memory file with the content of a blob. Raises TransferError, OSError."""
        fd = memfd.create()
        try:
            await self._transfers.download(payload.blob, self._workspace, fd, PAYLOAD_LIMIT)
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

    async def store(self, fd: int) -> Payload:
        """A sealed memory file as a blob of the server. Closes the descriptor. May raise TransferError."""
        try:
            size = os.fstat(fd).st_size
            blob = await asyncio.to_thread(digest, fd, size)
            await self._transfers.upload(blob, self._workspace, fd, size)
        finally:
            os.close(fd)
        return Payload(blob=blob, size=size)


def given(data: bytes) -> tuple[bytes, int | None]:
    """How bytes go to a runner: inline, or (then the first is empty) as a memory file."""
    return (data, None) if len(data) <= INLINE else (b"", memfd.of([data]))


def taken(data: bytes, fd: int | None) -> Payload | int:
    """What came from a runner: a payload, or the descriptor of one that must become a blob first.

    Closes the descriptor in the first case.
    """
    if fd is None:
        return Payload(data, size=len(data))
    size = os.fstat(fd).st_size
    if size > INLINE_LIMIT:
        return fd
    try:
        return Payload(os.pread(fd, size, 0), size=size)
    finally:
        os.close(fd)
