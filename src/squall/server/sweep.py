"""Blobs that nothing names any more are deleted: payloads of calls that have ended, and what a crash left.

Who puts a blob, or asks whether it is here, is about to name it. So each one stays for a while after that,
and after its last use; what was there when the server started stays for a while from then on. All on the
server's own clock: that of the machine may be set.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from squall.store.base import Blobs, StoreError, Upload
from squall.wire.parcels import is_name as is_parcel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from squall.server.calltable import CallTable
    from squall.server.clock import Clock
    from squall.server.tasks import Tasks
    from squall.store.base import BlobKey, Store
    from squall.wire.values import Payload

log = logging.getLogger("squall.server")

#: Seconds between sweeps.
INTERVAL = 600.0
#: How long a blob stays that was put or asked for: the rest of a source tree may follow on a slow line.
UNNAMED = 3_600.0
#: How long one stays that an input or output has named: who was told of it fetches it now.
RELEASED = 600.0
#: Blobs deleted at a time; others wait meanwhile.
STEP = 100


class KeptBlobs(Blobs):
    """Blobs that know until when each is to stay."""

    def __init__(self, inner: Blobs, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock
        self._until: dict[BlobKey, float] = {}
        self._from_before = clock.now() + UNNAMED
        self._idle = asyncio.Event()
        self._idle.set()

    async def has(self, workspace: str, blob: str) -> bool:
        await self._awaited(workspace, blob)
        return await self._inner.has(workspace, blob)

    async def begin(self, workspace: str, blob: str) -> Upload:
        return _KeptUpload(self, await self._inner.begin(workspace, blob), (workspace, blob))

    def read(self, workspace: str, blob: str, chunk: int) -> AsyncIterator[bytes]:
        return self._inner.read(workspace, blob, chunk)

    async def size(self, workspace: str, blob: str) -> int:
        return await self._inner.size(workspace, blob)

    async def all(self) -> list[BlobKey]:
        return await self._inner.all()

    async def remove(self, blobs: Sequence[BlobKey]) -> int:
        """Those that are not to stay. Meanwhile none is put or asked for."""
        self._idle.clear()
        try:
            return await self._inner.remove([key for key in blobs if self.due(key)])
        finally:
            self._idle.set()

    def due(self, key: BlobKey) -> bool:
        """Whether it may go, if nothing names it."""
        return self._clock.now() >= self._until.get(key, self._from_before)

    def keep(self, workspace: str, payload: Payload, seconds: float = UNNAMED) -> None:
        """A payload's blob, if it is in one, stays for so long from now on."""
        if payload.blob and not is_parcel(payload.blob):
            self._until[workspace, payload.blob] = self._clock.now() + seconds

    def forget(self) -> None:
        """What is long over."""
        now = self._clock.now()
        if now >= self._from_before:
            self._until = {key: until for key, until in self._until.items() if until > now}

    async def _awaited(self, workspace: str, blob: str) -> None:
        """It is about to be named."""
        while not self._idle.is_set():
            await self._idle.wait()
        self._until[workspace, blob] = self._clock.now() + UNNAMED


class _KeptUpload(Upload):
    def __init__(self, blobs: KeptBlobs, inner: Upload, key: BlobKey) -> None:
        self._blobs = blobs
        self._inner = inner
        self._key = key

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def finish(self) -> None:
        await self._blobs._awaited(*self._key)
        await self._inner.finish()

    async def abort(self) -> None:
        await self._inner.abort()


class Sweep:
    """From `start` on, at intervals."""

    def __init__(self, blobs: KeptBlobs, store: Store, table: CallTable, clock: Clock, tasks: Tasks) -> None:
        self._blobs = blobs
        self._store = store
        self._table = table
        self._clock = clock
        self._tasks = tasks

    def start(self) -> None:
        self._clock.call_later(INTERVAL, self._begin)

    def _begin(self) -> None:
        self._tasks.spawn(self._sweep())

    async def _sweep(self) -> None:
        try:
            count = await self._remove_unnamed()
            if count:
                log.info("%d blobs that nothing needs any more were deleted", count)
        except StoreError as error:
            log.error("blobs could not be looked through: %s", error)  # noqa: TRY400 - one line is enough
        self.start()

    async def _remove_unnamed(self) -> int:
        # The disk first: what goes from memory to disk after this look was let go of, and stays a while.
        named = await self._store.named_blobs()
        unnamed = [key for key in await self._blobs.all() if key not in named and self._blobs.due(key)]
        count = 0
        for start in range(0, len(unnamed), STEP):
            step = unnamed[start : start + STEP]
            in_memory = set(self._named_in_memory())
            count += await self._blobs.remove([key for key in step if key not in in_memory])
        self._blobs.forget()
        return count

    def _named_in_memory(self) -> Iterator[BlobKey]:
        for entry in self._table.inputs.values():
            for payload in entry.payloads():
                if payload.blob:
                    yield entry.call.workspace, payload.blob
