"""Blobs in a directory: `<root>/<workspace>/<first two digits>/<sha256>`, visible only once whole and synced."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from squall.store.base import Blobs, NotFound, StoreError, Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HEX = frozenset("0123456789abcdef")


class DiskBlobs(Blobs):
    """Ids and workspaces come from outside: whatever is no plain name is simply not found."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def has(self, workspace: str, blob: str) -> bool:
        return self._path(workspace, blob).is_file()

    async def begin(self, workspace: str, blob: str) -> Upload:
        target = self._path(workspace, blob)
        temporary = target.with_name(f".{blob}.{secrets.token_hex(8)}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = temporary.open("xb")
        except OSError as error:
            raise StoreError(_explain(error)) from None
        return DiskUpload(file, temporary, target)

    async def read(self, workspace: str, blob: str, chunk: int) -> AsyncIterator[bytes]:
        try:
            file = self._path(workspace, blob).open("rb")
        except FileNotFoundError:
            raise NotFound(blob) from None
        except OSError as error:
            raise StoreError(_explain(error)) from None
        with file:
            while data := await asyncio.to_thread(file.read, chunk):
                yield data

    async def size(self, workspace: str, blob: str) -> int:
        try:
            return self._path(workspace, blob).stat().st_size
        except FileNotFoundError:
            raise NotFound(blob) from None

    def _path(self, workspace: str, blob: str) -> Path:
        if len(blob) != 64 or not _HEX.issuperset(blob) or not workspace or "/" in workspace or workspace[0] == ".":
            raise NotFound(blob[:80])
        return self._root / workspace / blob[:2] / blob


class DiskUpload(Upload):
    """Written beside its place, then renamed into it."""

    def __init__(self, file: BinaryIO, temporary: Path, target: Path) -> None:
        self._file, self._temporary, self._target = file, temporary, target
        self._hash = hashlib.sha256()

    async def write(self, data: bytes) -> None:
        self._hash.update(data)
        try:
            await asyncio.to_thread(self._file.write, data)
        except OSError as error:
            await self.abort()
            raise StoreError(_explain(error)) from None

    async def finish(self) -> None:
        if self._hash.hexdigest() != self._target.name:
            await self.abort()
            raise ValueError(f"the content is not what {self._target.name[:12]}... stands for")
        try:
            await asyncio.to_thread(self._publish)
        except OSError as error:
            await self.abort()
            raise StoreError(_explain(error)) from None

    async def abort(self) -> None:
        try:
            self._file.close()
        except OSError:
            pass  # what a full disk could not take is being deleted anyway
        self._temporary.unlink(missing_ok=True)

    def _publish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.rename(self._target)
        directory = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _explain(error: OSError) -> str:
    return f"cannot store data: {error.strerror}; free some space or set SQUALL_STATE to another directory"
