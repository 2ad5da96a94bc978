"""Manifests of the server as read-only trees of this machine, one a workspace and manifest.

They come from tenants: every path is checked, nothing is followed, and a tree appears whole or not at all.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squall.build.base import Files
from squall.node.transfers import TransferError
from squall.wire.hashing import manifest_id

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from squall.node.transfers import Transfers
    from squall.wire.values import FileEntry, Manifest

#: Limits of one manifest: files, bytes in all, bytes of a path.
_FILES, _BYTES, _PATH = 100_000, 8 << 30, 4096
#: Trees that stay after their last use, for the next one.
_KEPT = 64


@dataclass(frozen=True)
class Tenant:
    """A workspace and the first uid of its range."""

    workspace: str
    uid_base: int


#: Whose build it is that asks for a tree (see `Sources.tree`) or runs a step.
building_for: ContextVar[Tenant] = ContextVar("building_for")


class Sources(Files):
    """`acquire` and `release` count uses; what is not in use may go."""

    def __init__(self, root: Path, transfers: Transfers) -> None:
        self._root = root
        self._transfers = transfers
        self._uses: Counter[Path] = Counter()
        self._making: dict[Path, asyncio.Task[None]] = {}

    async def acquire(self, workspace: str, manifests: Mapping[str, Manifest]) -> dict[str, Path]:
        """The trees of these manifests, held until `release`. Raises TransferError, OSError."""
        paths = {name: self._path(workspace, name) for name in manifests}
        self._uses.update(paths.values())
        try:
            for name, manifest in manifests.items():
                await self._ensure(workspace, name, manifest)
        except BaseException:
            self._uses.subtract(paths.values())
            raise
        return paths

    def release(self, workspace: str, manifests: Mapping[str, Manifest]) -> None:
        self._uses.subtract(self._path(workspace, name) for name in manifests)
        self._uses = +self._uses

    async def tree(self, manifest_id: str, manifest: Manifest) -> Path:
        """For a build (build.base.Files); the context says whose."""
        workspace = building_for.get().workspace
        await self._ensure(workspace, manifest_id, manifest)
        return self._path(workspace, manifest_id)

    async def clear(self) -> None:
        """Remove what an earlier life left half made."""
        for stale in await asyncio.to_thread(lambda: list(self._root.glob("*/.new-*"))):
            await asyncio.to_thread(_remove, stale)

    def _path(self, workspace: str, name: str) -> Path:
        for part in (workspace, name):
            if not part or part.startswith(".") or "/" in part or "\0" in part:
                raise TransferError(f"{part!r} is no name of a workspace or manifest")
        return self._root / workspace / name

    async def _ensure(self, workspace: str, name: str, manifest: Manifest) -> None:
        """Once, however many ask."""
        path = self._path(workspace, name)
        if path.is_dir():
            os.utime(path)
            return
        task = self._making.get(path)
        if task is None:
            task = self._making[path] = asyncio.create_task(self._make(workspace, name, manifest, path))
            task.add_done_callback(lambda _: self._making.pop(path, None))
        await asyncio.shield(task)

    async def _make(self, workspace: str, name: str, manifest: Manifest, path: Path) -> None:
        if manifest_id(manifest) != name:
            raise TransferError(f"manifest {name} has another content than its id says")
        check(manifest)
        await self._evict(path.parent)
        temporary = path.parent / f".new-{name}"
        await asyncio.to_thread(_remove, temporary)
        try:
            temporary.mkdir(parents=True, mode=0o755)
            first = {e.sha256: e for e in reversed(manifest.entries)}
            waiting = [self._fetch(workspace, entry, temporary) for entry in first.values()]
            await _all(waiting)
            await asyncio.to_thread(_finish, manifest, first, temporary)
            os.rename(temporary, path)
        except BaseException:
            await asyncio.to_thread(_remove, temporary)
            raise

    async def _fetch(self, workspace: str, entry: FileEntry, root: Path) -> None:
        target = root / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            size = await self._transfers.download(entry.sha256, workspace, fd, entry.size)
            if size != entry.size:
                raise TransferError(f"{entry.path} has {size} bytes and not {entry.size}")
            os.fchmod(fd, (entry.mode & 0o111) | 0o444)
        finally:
            os.close(fd)

    async def _evict(self, folder: Path) -> None:
        """The longest unused first."""
        trees = await asyncio.to_thread(_by_age, folder)
        unused = [p for p in trees if not self._uses[p] and p not in self._making]
        for tree in unused[: max(0, len(unused) - _KEPT + 1)]:
            gone = tree.with_name(f".new-{tree.name}-old")
            os.rename(tree, gone)
            await asyncio.to_thread(_remove, gone)


def check(manifest: Manifest) -> None:
    """Raises TransferError unless all its paths lie below its root and name each file once."""
    entries = manifest.entries
    if len(entries) > _FILES or sum(max(e.size, 0) for e in entries) > _BYTES:
        raise TransferError(f"a manifest over {_FILES} files or {_BYTES >> 30} GiB")
    for entry in entries:
        parts = entry.path.split("/")
        if len(entry.path.encode()) > _PATH or "\0" in entry.path or any(p in {"", ".", ".."} for p in parts):
            raise TransferError(f"{entry.path[:80]!r} is no path below a manifest's root")
        if entry.size < 0:
            raise TransferError(f"{entry.path[:80]!r} has a size below zero")
    if len({e.path for e in entries}) != len(entries):
        raise TransferError("a manifest names a file twice")


async def _all(waiting: list[Coroutine[Any, Any, None]]) -> None:
    """As gather, but nothing goes on after the first failure."""
    tasks = [asyncio.create_task(w) for w in waiting]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _finish(manifest: Manifest, first: Mapping[str, FileEntry], root: Path) -> None:
    """Files whose content is there under another name, and the modes of folders."""
    for entry in manifest.entries:
        source = first[entry.sha256]
        if source is not entry:
            target = root / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / source.path, target, follow_symlinks=False)
            target.chmod((entry.mode & 0o111) | 0o444)
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o755)


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("mo-*"), key=lambda p: p.stat().st_mtime)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
