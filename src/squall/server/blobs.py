"""Blobs over a connection: uploads bounded and in order, downloads no faster than the peer reads."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from squall.server.names import Refusal, check_blob
from squall.store.base import NotFound, StoreError
from squall.wire.messages import BlobChunk, Failure, Response
from squall.wire.parcels import is_name as is_parcel
from squall.wire.values import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from squall.server.connection import Connection
    from squall.server.parcels import Content
    from squall.server.tasks import Tasks
    from squall.store.base import Upload
    from squall.wire.messages import BlobFetch

#: The largest blob, in bytes.
BLOB_LIMIT = 4 << 30
#: Uploads, and downloads, of one connection at a time.
CONCURRENT = 32
#: Bytes that wait for the disk before the connection is read no more, and where it is read again.
QUEUE_HIGH = 16 << 20
QUEUE_LOW = 4 << 20
#: A peer whose connection cannot be paused may be so far ahead of the disk.
QUEUE_LIMIT = 256 << 20
#: Bytes on their way to a peer before the next piece waits, and seconds between looks.
SEND_HIGH = 4 << 20
SEND_PAUSE = 0.002


@dataclass(eq=False)
class _Incoming:
    id: int
    blob: str
    workspace: str
    chunks: deque[BlobChunk] = field(default_factory=deque)
    offset: int = 0
    complete: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Transfers:
    """The blobs of one connection. `workspace_of` checks whose a message says it is, or raises Refusal."""

    def __init__(
        self, connection: Connection, content: Content, tasks: Tasks, workspace_of: Callable[[str], str]
    ) -> None:
        self._connection = connection
        self._blobs = content.blobs
        self._parcels = content.parcels
        self._tasks = tasks
        self._workspace_of = workspace_of
        self._incoming: dict[int, _Incoming] = {}
        self._refused: dict[int, None] = {}
        self._queued = 0
        self._paused = False
        self._fetches: set[int] = set()
        self._running: set[asyncio.Task[None]] = set()

    # ---------------------------------------------------------------------------------------------- uploads

    def chunk(self, message: BlobChunk) -> None:
        if message.id in self._refused:
            if message.last:
                del self._refused[message.id]
            return
        try:
            upload = self._incoming.get(message.id) or self._begin(message)
            self._check(upload, message)
        except Refusal as refusal:
            self._refuse(message, refusal)
            return
        upload.offset += len(message.data)
        upload.complete = message.last
        upload.chunks.append(message)
        upload.wake.set()
        self._queued += len(message.data)
        if self._queued > QUEUE_HIGH and not self._paused:
            self._paused = True
            self._connection.pause()

    def _begin(self, message: BlobChunk) -> _Incoming:
        if len(self._incoming) >= CONCURRENT:
            raise Refusal("exhausted", f"{CONCURRENT} uploads at a time: wait for one to end")
        upload = _Incoming(message.id, check_blob(message.blob), self._workspace_of(message.workspace))
        self._incoming[message.id] = upload
        self._go(self._receive(upload))
        return upload

    def _check(self, upload: _Incoming, message: BlobChunk) -> None:
        if message.blob != upload.blob or message.offset != upload.offset or upload.complete:
            raise Refusal("invalid", f"a chunk of blob {upload.blob[:12]} out of order: upload it again")
        if upload.offset + len(message.data) > BLOB_LIMIT:
            raise Refusal("invalid", f"blob {upload.blob[:12]} is over {BLOB_LIMIT >> 30} GiB")
        if self._queued + len(message.data) > QUEUE_LIMIT:
            raise Refusal("exhausted", "the server's disk is too slow for this upload: try again")

    def _refuse(self, message: BlobChunk, refusal: Refusal) -> None:
        upload = self._incoming.pop(message.id, None)
        if upload is not None:
            self._drop(upload)
        if not message.last:
            self._refused[message.id] = None
            if len(self._refused) > CONCURRENT:
                del self._refused[next(iter(self._refused))]
        self._connection.send(Failure(message.id, refusal.code, refusal.message))

    def _drop(self, upload: _Incoming) -> None:
        """Its task aborts when it finds the upload gone."""
        for chunk in upload.chunks:
            self._taken(chunk)
        upload.chunks.clear()
        upload.wake.set()

    async def _receive(self, upload: _Incoming) -> None:
        sink: Upload | None = None
        try:
            sink = await self._blobs.begin(upload.workspace, upload.blob)
            done = await self._write_all(upload, sink)
            if done:
                await sink.finish()
                sink = None
                self._incoming.pop(upload.id, None)
                self._connection.send(Response(upload.id))
        except (ValueError, StoreError) as error:
            self._failed(upload, error)
        finally:
            if sink is not None:
                await sink.abort()

    async def _write_all(self, upload: _Incoming, sink: Upload) -> bool:
        """False when the upload was given up."""
        while self._incoming.get(upload.id) is upload:
            while upload.chunks:
                chunk = upload.chunks.popleft()
                self._taken(chunk)
                await sink.write(chunk.data)
                if chunk.last:
                    return self._incoming.get(upload.id) is upload
            upload.wake.clear()
            await upload.wake.wait()
        return False

    def _taken(self, chunk: BlobChunk) -> None:
        self._queued -= len(chunk.data)
        if self._paused and self._queued < QUEUE_LOW:
            self._paused = False
            self._connection.resume()

    def _failed(self, upload: _Incoming, error: Exception) -> None:
        if self._incoming.get(upload.id) is not upload:
            return
        last = BlobChunk(upload.id, upload.blob, 0, b"", last=upload.complete)
        if isinstance(error, StoreError):
            self._refuse(last, Refusal("unavailable", str(error)))
        else:
            self._refuse(
                last, Refusal("invalid", f"blob {upload.blob[:12]}: the content is not what its id says")
            )

    # -------------------------------------------------------------------------------------------- downloads

    def fetch(self, message: BlobFetch) -> None:
        try:
            if len(self._fetches) >= CONCURRENT:
                raise Refusal("exhausted", f"{CONCURRENT} downloads at a time: wait for one to end")
            if message.id in self._fetches:
                raise Refusal("invalid", "a download of this id is under way")
            if not is_parcel(message.blob):
                check_blob(message.blob)
            workspace = self._workspace_of(message.workspace)
        except Refusal as refusal:
            self._connection.send(Failure(message.id, refusal.code, refusal.message))
            return
        self._fetches.add(message.id)
        self._go(self._send(message, workspace))

    async def _send(self, message: BlobFetch, workspace: str) -> None:
        try:
            await self._send_pieces(message, workspace)
        except Refusal as refusal:
            self._connection.send(Failure(message.id, refusal.code, refusal.message))
        except NotFound:
            self._connection.send(Failure(message.id, "not_found", f"no blob {message.blob[:12]} is here"))
        except StoreError as error:
            self._connection.send(Failure(message.id, "unavailable", str(error)))
        finally:
            self._fetches.discard(message.id)

    async def _send_pieces(self, message: BlobFetch, workspace: str) -> None:
        if is_parcel(message.blob):
            await self._send_parcel(message, workspace)
            return
        size = await self._blobs.size(workspace, message.blob)
        offset = 0
        async for piece in self._blobs.read(workspace, message.blob, CHUNK):
            await self._room()
            end = offset + len(piece)
            self._connection.send(BlobChunk(message.id, message.blob, offset, piece, last=end >= size))
            offset = end
        if size == 0:
            self._connection.send(BlobChunk(message.id, message.blob, 0, b"", last=True))

    async def _send_parcel(self, message: BlobFetch, workspace: str) -> None:
        """To who is not on this host. Never mapped: a piece is copied out of the file."""
        fd = os.dup(self._parcels.get(workspace, message.blob))
        try:
            size = os.fstat(fd).st_size
            for offset in range(0, size, CHUNK):
                await self._room()
                piece = os.pread(fd, CHUNK, offset)
                last = offset + CHUNK >= size
                self._connection.send(BlobChunk(message.id, message.blob, offset, piece, last))
        finally:
            os.close(fd)

    async def _room(self) -> None:
        await asyncio.sleep(0)
        while self._connection.buffered() > SEND_HIGH:  # noqa: ASYNC110 - connections tell nobody
            await asyncio.sleep(SEND_PAUSE)

    # -------------------------------------------------------------------------------------------------- end

    def close(self) -> None:
        """The connection is gone."""
        self._incoming.clear()
        for task in list(self._running):
            task.cancel()

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.spawn(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
