"""Manifests become trees, and never anything beside them."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from squall.node import files
from squall.node.files import Sources, Tenant, building_for
from squall.node.transfers import TransferError
from squall.wire.hashing import blob_id, manifest_id
from squall.wire.values import FileEntry, Manifest

if TYPE_CHECKING:
    from pathlib import Path


class Blobs:
    """Transfers from memory."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.fetched: list[tuple[str, str]] = []

    async def download(self, blob: str, workspace: str, fd: int, limit: int) -> int:
        self.fetched.append((workspace, blob))
        await asyncio.sleep(0)
        if blob not in self.blobs:
            raise TransferError(f"no blob {blob[:12]}")
        assert len(self.blobs[blob]) <= limit
        return os.pwrite(fd, self.blobs[blob], 0)

    def manifest(self, **contents: bytes) -> tuple[str, Manifest]:
        entries = []
        for name, data in contents.items():
            self.blobs[blob_id(data)] = data
            mode = 0o755 if name.startswith("run") else 0o644
            entries.append(FileEntry(name.replace("__", "/"), blob_id(data), len(data), mode))
        manifest = Manifest(entries)
        return manifest_id(manifest), manifest


def sources(folder: Path, blobs: Blobs) -> Sources:
    return Sources(folder / "sources", blobs)  # type: ignore[arg-type]


def test_makes_a_tree_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        blobs = Blobs()
        name, manifest = blobs.manifest(a=b"A", pkg__b=b"B", pkg__sub__same=b"A", run=b"#!")
        found = sources(tmp_path, blobs)
        first, second = await asyncio.gather(
            found.acquire("w", {name: manifest}), found.acquire("w", {name: manifest})
        )
        tree = first[name]
        assert second[name] == tree == tmp_path / "sources" / "w" / name
        contents = {str(p.relative_to(tree)): p.read_bytes() for p in tree.rglob("*") if p.is_file()}
        assert contents == {"a": b"A", "pkg/b": b"B", "pkg/sub/same": b"A", "run": b"#!"}
        assert (tree / "a").stat().st_mode & 0o777 == 0o444
        assert (tree / "run").stat().st_mode & 0o777 == 0o555
        assert len(blobs.fetched) == 3  # equal contents are fetched once
        await found.acquire("other", {name: manifest})
        assert ("other", manifest.entries[0].sha256) in blobs.fetched  # a hash is no permission

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "a/.", "a\0b", "x" * 5000, "a/"]
)
def test_paths_outside_are_refused(path: str) -> None:
    with pytest.raises(TransferError):
        files.check(Manifest([FileEntry(path, "0" * 64, 1)]))


@pytest.mark.parametrize(
    "entries",
    [
        [FileEntry("a", "0" * 64, -1)],
        [FileEntry("a", "0" * 64, 1 << 40)],
        [FileEntry("a", "0" * 64, 1), FileEntry("a", "1" * 64, 1)],
    ],
)
def test_nonsense_is_refused(entries: list[FileEntry]) -> None:
    with pytest.raises(TransferError):
        files.check(Manifest(entries))


def test_a_file_that_is_a_folder_too_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        blobs = Blobs()
        name, manifest = blobs.manifest(a=b"A", a__b=b"B")
        with pytest.raises((TransferError, OSError)):
            await sources(tmp_path, blobs).acquire("w", {name: manifest})
        assert list((tmp_path / "sources" / "w").iterdir()) == []

    asyncio.run(scenario())


@pytest.mark.parametrize("workspace", ["..", "a/b", "", ".hidden"])
def test_a_workspace_is_one_name(tmp_path: Path, workspace: str) -> None:
    async def scenario() -> None:
        blobs = Blobs()
        name, manifest = blobs.manifest(a=b"A")
        with pytest.raises(TransferError):
            await sources(tmp_path, blobs).acquire(workspace, {name: manifest})

    asyncio.run(scenario())


def test_a_manifest_under_a_wrong_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        blobs = Blobs()
        _, manifest = blobs.manifest(a=b"A")
        with pytest.raises(TransferError, match="another content"):
            await sources(tmp_path, blobs).acquire("w", {"mo-" + "0" * 32: manifest})

    asyncio.run(scenario())


def test_a_blob_of_another_size(tmp_path: Path) -> None:
    async def scenario() -> None:
        blobs = Blobs()
        _, manifest = blobs.manifest(a=b"AB")
        manifest.entries[0].size = 5
        with pytest.raises(TransferError, match="2 bytes and not 5"):
            await sources(tmp_path, blobs).acquire("w", {manifest_id(manifest): manifest})

    asyncio.run(scenario())


def test_builds_say_for_whom(tmp_path: Path) -> None:
    async def scenario() -> None:
        blobs = Blobs()
        name, manifest = blobs.manifest(a=b"A")
        building_for.set(Tenant("w7", 1_065_536))
        assert await sources(tmp_path, blobs).tree(name, manifest) == tmp_path / "sources" / "w7" / name

    asyncio.run(scenario())


def test_old_trees_go_but_never_those_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(files, "_KEPT", 2)
        blobs = Blobs()
        found = sources(tmp_path, blobs)
        made = [blobs.manifest(a=str(n).encode()) for n in range(5)]
        for n, (name, manifest) in enumerate(made):
            trees = await found.acquire("w", {name: manifest})
            os.utime(trees[name], (n, n))
            if n:
                found.release("w", {name: manifest})
        left = {p.name for p in (tmp_path / "sources" / "w").iterdir()}
        assert left == {made[0][0], made[3][0], made[4][0]}

    asyncio.run(scenario())


def test_clears_what_was_left_half_made(tmp_path: Path) -> None:
    async def scenario() -> None:
        half = tmp_path / "sources" / "w" / ".new-mo-1"
        half.mkdir(parents=True)
        await sources(tmp_path, Blobs()).clear()
        assert not half.exists()

    asyncio.run(scenario())
