"""Blobs in a directory: `<workspace>/<first two digits>/<sha256>`, there only once they are whole and synced.

An upload is a file of `<workspace>/tmp`, renamed into its place by `finish`. Nobody else writes below the
directory, so what is in `tmp` when it is opened was left by a server that died.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from squall.store.base import BlobKey, Blobs, NotFound, StoreError, Upload
from squall.store.errors import refuse_network, store_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: No name of a workspace leaves its tree: it begins with a letter or digit and has no slash.
_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BLOB = re.compile(r"[0-9a-f]{64}")
_INCOMING = "tmp"

#: Threads that wait for the disk.
THREADS = 8


class DiskBlobs(Blobs):
    """Used between `open` and `close`. Directories are made with mode 0700."""

    def __init__(self, root: str | os.PathLike[str], *, network_file_system: bool = False) -> None:
        self._root = os.fspath(root)
        self._network = network_file_system
        self._disk = _Disk(self._root)

    async def open(self) -> None:
        await self._disk(_open, self._root, self._network)

    async def close(self) -> None:
        await asyncio.to_thread(self._disk.close)

    async def has(self, workspace: str, blob: str) -> bool:
        path = self._path(workspace, blob)
        return path is not None and await self._disk(os.path.exists, path)

    async def begin(self, workspace: str, blob: str) -> Upload:
        path = self._path(workspace, blob)
        if path is None:
            raise ValueError(f"{blob[:80]!r} in {workspace[:80]!r} names no blob")
        incoming = os.path.join(self._root, workspace, _INCOMING, f"{blob}-{secrets.token_hex(8)}")
        file = _Incoming(incoming, path)
        upload = _DiskUpload(self._disk, file)
        try:
            await self._disk(file.create)
        except asyncio.CancelledError:
            await upload.abort()
            raise
        return upload

    async def read(self, workspace: str, blob: str, chunk: int) -> AsyncIterator[bytes]:
        file = _Outgoing(self._found(workspace, blob))
        try:
            while piece := await self._disk(file.read, chunk):
                yield piece
        finally:
            file.close()

    async def size(self, workspace: str, blob: str) -> int:
        return (await self._disk(os.stat, self._found(workspace, blob))).st_size

    async def all(self) -> list[BlobKey]:
        return await self._disk(_all, self._root)

    async def remove(self, blobs: Sequence[BlobKey]) -> int:
        paths = [path for key in blobs if (path := self._path(*key)) is not None]
        return await self._disk(_remove, self._root, paths)

    def _found(self, workspace: str, blob: str) -> str:
        path = self._path(workspace, blob)
        if path is None:
            raise NotFound(f"no blob {blob[:80]}")
        return path

    def _path(self, workspace: str, blob: str) -> str | None:
        if not _WORKSPACE.fullmatch(workspace) or not _BLOB.fullmatch(blob):
            return None
        return os.path.join(self._root, workspace, blob[:2], blob)


class _DiskUpload(Upload):
    def __init__(self, disk: _Disk, file: _Incoming) -> None:
        self._disk = disk
        self._file = file

    async def write(self, data: bytes) -> None:
        await self._disk(self._file.write, data)

    async def finish(self) -> None:
        await self._disk(self._file.publish)

    async def abort(self) -> None:
        await self._disk(self._file.remove)


class _Disk:
    """Runs what touches the disk on threads; errors come out as StoreError and NotFound."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")

    async def __call__(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            future = self._pool.submit(work, *args, **kwargs)
        except RuntimeError:
            raise StoreError("the server is shutting down: try again when it is back") from None
        try:
            return await asyncio.wrap_future(future)
        except FileNotFoundError as error:
            raise NotFound(f"no blob {os.path.basename(str(error.filename))}") from None
        except OSError as error:
            raise store_error(error, self._root) from None

    def close(self) -> None:
        self._pool.shutdown(wait=True)


class _Incoming:
    """A file on its way in. Threads enter one at a time: a task may be cancelled while its write goes on."""

    def __init__(self, path: str, target: str) -> None:
        self._path = path
        self._target = target
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        self._descriptor = -1
        self._over = False

    def create(self) -> None:
        with self._lock:
            if self._over:
                return
            _make_directories(os.path.dirname(self._path))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)

    def write(self, data: bytes) -> None:
        with self._lock:
            if self._over:
                raise ValueError("the upload has ended")
            self._hash.update(data)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def publish(self) -> None:
        with self._lock:
            blob = os.path.basename(self._target)
            if self._over or self._hash.hexdigest() != blob:
                raise ValueError(f"blob {blob[:12]}: the content is not what its id says")
            os.fsync(self._descriptor)
            directory = os.path.dirname(self._target)
            _make_directories(directory)
            os.rename(self._path, self._target)
            self._end()
            _sync_directory(directory)

    def remove(self) -> None:
        """Nothing to do after `publish`."""
        with self._lock:
            if self._over:
                return
            self._end()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def _end(self) -> None:
        self._over = True
        if self._descriptor >= 0:
            os.close(self._descriptor)


class _Outgoing:
    """A file on its way out. Closed when no thread reads it: its number may be another file's by then."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor = -1
        self._over = False

    def read(self, size: int) -> bytes:
        with self._lock:
            if self._over:
                return b""
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            return os.read(self._descriptor, size)

    def close(self) -> None:
        with self._lock:
            self._over = True
            if self._descriptor >= 0:
                os.close(self._descriptor)


def _open(root: str, network: bool) -> None:
    _make_directories(root)
    if not network:
        refuse_network(root)
    for workspace in os.listdir(root):
        incoming = os.path.join(root, workspace, _INCOMING)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(incoming):
                os.unlink(os.path.join(incoming, name))


def _all(root: str) -> list[BlobKey]:
    found: list[BlobKey] = []
    for workspace in filter(_WORKSPACE.fullmatch, os.listdir(root)):
        for base, _, names in os.walk(os.path.join(root, workspace)):
            if os.path.basename(base) != _INCOMING:
                found += [(workspace, name) for name in names if _BLOB.fullmatch(name)]
    return found


def _remove(root: str, paths: list[str]) -> int:
    """Whoever makes a backup has a lock on the directory: what its copy of the database names must stay."""
    count = 0
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                count += 1
    except BlockingIOError:
        return 0
    finally:
        os.close(directory)
    return count


def _make_directories(path: str) -> None:
    """Each new one synced into its parent: a directory that vanishes takes its blobs along."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_directories(os.path.dirname(path))
        _make_directories(path)
        return
    _sync_directory(os.path.dirname(path))


def _sync_directory(path: str) -> None:
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
