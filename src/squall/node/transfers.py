"""Blobs between the server and memory files or files of this machine; repeated when the connection breaks."""

from __future__ import annotations

import asyncio
import hashlib
import os
from itertools import count
from typing import TYPE_CHECKING, Protocol

from squall.wire.messages import BlobChunk, BlobFetch, Failure, Response
from squall.wire.parcels import is_name as is_parcel
from squall.wire.values import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable

#: Transfers each way at a time; the server allows 32 a connection.
_CONCURRENT = 16
#: Bytes in the link's queue at which an upload waits.
_HIGH = 4 << 20
_PAUSE = 0.005


class TransferError(Exception):
    """A blob cannot be had or kept; the message is one line."""


class _BrokenError(Exception):
    """The connection went away in the middle."""


class Sender(Protocol):
    """The link, as far as transfers need it."""

    ready: asyncio.Event

    def send(self, *messages: object) -> None: ...

    def buffered(self) -> int: ...


class _Download:
    """Chunks of one blob on their way into a file."""

    def __init__(self, fd: int, limit: int) -> None:
        self.fd = fd
        self.limit = limit
        self.size = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, chunk: BlobChunk) -> None:
        if chunk.offset != self.size or self.size + len(chunk.data) > self.limit:
            raise TransferError(f"blob {chunk.blob[:12]} came out of order or is over {self.limit} bytes")
        view = memoryview(chunk.data)
        while view:
            written = os.pwrite(self.fd, view, self.size)
            self.size += written
            view = view[written:]


class Transfers:
    """`received` takes every BlobChunk, Response and Failure of the connection."""

    def __init__(self, link: Sender) -> None:
        self._link = link
        self._numbers = count(1)
        self._downloads: dict[int, _Download] = {}
        self._uploads: dict[int, asyncio.Future[None]] = {}
        self._fetching = asyncio.Semaphore(_CONCURRENT)
        self._sending = asyncio.Semaphore(_CONCURRENT)

    async def download(self, blob: str, workspace: str, fd: int, limit: int) -> int:
        """The blob's content into an empty file; its size. Raises TransferError, OSError (disk)."""
        async with self._fetching:
            while True:
                await self._link.ready.wait()
                os.ftruncate(fd, 0)
                try:
                    size = await self._download_once(blob, workspace, fd, limit)
                except _BrokenError:
                    continue
                if not is_parcel(blob) and await asyncio.to_thread(digest, fd, size) != blob:
                    raise TransferError(f"blob {blob[:12]} came damaged: its content is not what its id says")
                return size

    async def upload(self, blob: str, workspace: str, fd: int, size: int) -> None:
        """The content of a file that does not change. Raises TransferError."""
        async with self._sending:
            while True:
                await self._link.ready.wait()
                try:
                    await self._upload_once(blob, workspace, fd, size)
                except _BrokenError:
                    continue
                return

    async def _download_once(self, blob: str, workspace: str, fd: int, limit: int) -> int:
        number = next(self._numbers)
        download = self._downloads[number] = _Download(fd, limit)
        try:
            self._link.send(BlobFetch(number, blob, workspace))
            await download.done
        finally:
            del self._downloads[number]
        return download.size

    async def _upload_once(self, blob: str, workspace: str, fd: int, size: int) -> None:
        number = next(self._numbers)
        done = self._uploads[number] = asyncio.get_running_loop().create_future()
        try:
            offset = 0
            while not done.done():
                data = os.pread(fd, CHUNK, offset)
                end = offset + len(data)
                if not data and offset < size:
                    raise TransferError("a payload ended early")
                self._link.send(BlobChunk(number, blob, offset, data, last=end >= size, workspace=workspace))
                offset = end
                if end >= size:
                    break
                while self._link.buffered() > _HIGH and not done.done():  # noqa: ASYNC110 - shared with others
                    await asyncio.sleep(_PAUSE)
                await asyncio.sleep(0)
            await done
        finally:
            del self._uploads[number]

    def received(self, message: BlobChunk | Response | Failure) -> None:
        """Part of a transfer, or its end. What belongs to none is dropped."""
        if isinstance(message, BlobChunk):
            self._chunk(message)
        elif isinstance(message, Response):
            _settle(self._uploads.get(message.id), None)
        else:
            error = TransferError(message.message)
            download = self._downloads.get(message.id)
            _settle(download.done if download is not None else self._uploads.get(message.id), error)

    def broken(self) -> None:
        """The connection is gone: everything under way begins again on the next one."""
        for download in self._downloads.values():
            _settle(download.done, _BrokenError())
        for done in self._uploads.values():
            _settle(done, _BrokenError())

    def _chunk(self, chunk: BlobChunk) -> None:
        download = self._downloads.get(chunk.id)
        if download is None or download.done.done():
            return
        try:
            download.write(chunk)
        except (TransferError, OSError) as error:
            _settle(download.done, error)
            return
        if chunk.last:
            _settle(download.done, None)


def _settle(future: asyncio.Future[None] | None, error: Exception | None) -> None:
    if future is None or future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def digest(fd: int, size: int) -> str:
    """SHA-256 of a file's first bytes, hex. For a thread: it takes a while."""
    found = hashlib.sha256()
    each_piece(fd, size, found.update)
    return found.hexdigest()


def each_piece(fd: int, size: int, take: Callable[[bytes], object]) -> None:
    """A file's content in pieces, by pread: mapped memory could fault under us. Raises TransferError."""
    offset = 0
    while offset < size:
        data = os.pread(fd, min(CHUNK, size - offset), offset)
        if not data:
            raise TransferError("a payload ended early")
        take(data)
        offset += len(data)
