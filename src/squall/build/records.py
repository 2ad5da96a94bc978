"""Records of what a builder has finished, and locks so that equal things are made once.

A record is a small JSON file, replaced atomically. What no record names is unfinished or was replaced. What
one names is on disk: `sync` comes before `write`, so that a power cut leaves nothing that only looks whole.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

#: Seconds between two looks at a lock that another process holds.
LOCK_POLL_S = 0.1


_libc = ctypes.CDLL(None, use_errno=True)


async def sync(folder: Path) -> None:
    """Return when all that was written to this folder's file system is on its disk. Raises OSError.

    All of it, and not the folder alone: a step's files are too many to be opened one by one, and the overlay
    that they were written through is `volatile`.
    """
    await asyncio.to_thread(_sync, folder)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"what was built cannot be written to disk: {os.strerror(number)}")
    finally:
        os.close(fd)


def read(path: Path) -> dict[str, Any] | None:
    """The record, or None where there is none that can be read."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def write(path: Path, data: dict[str, Any]) -> None:
    """Replace the record; a crash leaves the old one or the new one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


class Locks:
    """One lock a name, held against the tasks of this process and against other processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tasks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        async with self._tasks.setdefault(name, asyncio.Lock()):
            file = self._open(name)
            try:
                while not _take(file):  # noqa: ASYNC110 - no event comes from other processes
                    await asyncio.sleep(LOCK_POLL_S)
                yield
            finally:
                os.close(file)

    def is_free(self, name: str) -> bool:
        """Whether nobody, in this process or another one, holds the lock now."""
        file = self._open(name)
        try:
            return _take(file)
        finally:
            os.close(file)

    def _open(self, name: str) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        return os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _take(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
