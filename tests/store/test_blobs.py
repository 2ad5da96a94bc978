"""One suite for blobs on disk and in memory; then what only the disk has to show."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from squall.store.base import NotFound, StoreError
from squall.store.disk import DiskBlobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from squall.store.base import Blobs

pytestmark = pytest.mark.anyio

DATA = os.urandom(300_000)
BLOB = hashlib.sha256(DATA).hexdigest()
EMPTY = hashlib.sha256(b"").hexdigest()


async def put(blobs: Blobs, data: bytes = DATA, blob: str = BLOB, workspace: str = "a") -> None:
    upload = await blobs.begin(workspace, blob)
    for start in range(0, len(data), 100_000):
        await upload.write(data[start : start + 100_000])
    await upload.finish()
    await upload.abort()  # after the end it does nothing


async def get(blobs: Blobs, blob: str = BLOB, workspace: str = "a") -> list[bytes]:
    return [piece async for piece in blobs.read(workspace, blob, 1 << 17)]


def files(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def modes(path: Path) -> set[int]:
    return {p.stat().st_mode & 0o777 for p in path.rglob("*")}


async def test_round_trip(blobs: Blobs) -> None:
    assert not await blobs.has("a", BLOB)
    await put(blobs)
    assert await blobs.has("a", BLOB)
    assert await blobs.size("a", BLOB) == len(DATA)
    pieces = await get(blobs)
    assert b"".join(pieces) == DATA
    assert [len(piece) for piece in pieces] == [1 << 17, 1 << 17, len(DATA) - (2 << 17)]


async def test_an_empty_blob(blobs: Blobs) -> None:
    await put(blobs, b"", EMPTY)
    assert await blobs.size("a", EMPTY) == 0
    assert await get(blobs, EMPTY) == []


async def test_removal(blobs: Blobs) -> None:
    await put(blobs)
    await put(blobs, workspace="b")
    await put(blobs, b"", EMPTY)
    assert sorted(await blobs.all()) == sorted([("a", BLOB), ("a", EMPTY), ("b", BLOB)])
    assert await blobs.remove([("a", BLOB), ("a", "0" * 64), ("../b", BLOB)]) == 1
    assert sorted(await blobs.all()) == sorted([("a", EMPTY), ("b", BLOB)])
    assert not await blobs.has("a", BLOB)
    await put(blobs)
    assert await blobs.has("a", BLOB)


async def test_a_hash_is_no_permission(blobs: Blobs) -> None:
    await put(blobs)
    assert not await blobs.has("b", BLOB)
    with pytest.raises(NotFound):
        await get(blobs, workspace="b")
    with pytest.raises(NotFound):
        await blobs.size("b", BLOB)


async def test_wrong_content_is_refused(blobs: Blobs) -> None:
    upload = await blobs.begin("a", BLOB)
    await upload.write(DATA[:-1])
    with pytest.raises(ValueError, match="not what its id says"):
        await upload.finish()
    await upload.abort()
    assert not await blobs.has("a", BLOB)


async def test_nothing_is_there_before_the_end(blobs: Blobs) -> None:
    upload = await blobs.begin("a", BLOB)
    await upload.write(DATA)
    assert not await blobs.has("a", BLOB)
    await upload.abort()
    await upload.abort()
    assert not await blobs.has("a", BLOB)


async def test_the_same_blob_twice_at_once(blobs: Blobs) -> None:
    await asyncio.gather(*(put(blobs) for _ in range(8)))
    await put(blobs)
    assert b"".join(await get(blobs)) == DATA


@pytest.mark.parametrize(
    "blob",
    ["", "x" * 64, "../" + BLOB[3:], BLOB.upper(), BLOB + "\n", "." * 64],
    ids=["empty", "no hex", "a path", "upper case", "a line", "dots"],
)
async def test_ids_that_are_no_hashes(blobs: Blobs, blob: str) -> None:
    assert not await blobs.has("a", blob)
    with pytest.raises(NotFound):
        await blobs.size("a", blob)
    with pytest.raises(NotFound):
        await get(blobs, blob)


# ------------------------------------------------------------------------------------------------- on disk


@pytest.fixture
async def on_disk(tmp_path: Path) -> AsyncIterator[DiskBlobs]:
    blobs = DiskBlobs(tmp_path / "blobs")
    await blobs.open()
    yield blobs
    await blobs.close()


@pytest.mark.parametrize("workspace", ["", ".", "..", "../b", "/etc", "a/b", "a\0", "-a"])
async def test_workspaces_that_lead_elsewhere(on_disk: DiskBlobs, workspace: str) -> None:
    assert not await on_disk.has(workspace, BLOB)
    with pytest.raises(ValueError, match="names no blob"):
        await on_disk.begin(workspace, BLOB)


async def test_where_it_lies_and_who_may_read_it(on_disk: DiskBlobs, tmp_path: Path) -> None:
    await put(on_disk)
    assert files(tmp_path) == [f"blobs/a/{BLOB[:2]}/{BLOB}"]
    assert modes(tmp_path) <= {0o600, 0o700}


async def test_a_blob_lasts_and_what_was_never_finished_goes(tmp_path: Path) -> None:
    for life in range(2):
        blobs = DiskBlobs(tmp_path)
        await blobs.open()
        assert await blobs.has("a", BLOB) == (life == 1)
        await put(blobs)
        left = await blobs.begin("a", EMPTY)
        await left.write(b"half")
        assert len(files(tmp_path)) == 2
        await blobs.close()
    blobs = DiskBlobs(tmp_path)
    await blobs.open()
    assert files(tmp_path) == [f"{'a'}/{BLOB[:2]}/{BLOB}"]
    await blobs.close()


async def test_file_and_directory_are_synced_before_it_is_acknowledged(
    on_disk: DiskBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        events.append(
            "sync " + os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path / "blobs")
        )
        fsync(descriptor)

    def renamed(source: str, target: str) -> None:
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    await put(on_disk)
    assert (
        [e.rpartition("-")[0] or e for e in events]
        == [
            *("sync .", "sync a"),  # the directories a and a/tmp are new
            f"sync a/tmp/{BLOB}",
            *("sync a", "rename", f"sync a/{BLOB[:2]}"),
        ]
    )


async def test_an_upload_whose_task_is_cancelled_leaves_nothing(on_disk: DiskBlobs, tmp_path: Path) -> None:
    async def receive() -> None:
        upload = await on_disk.begin("a", BLOB)
        try:
            while True:
                await upload.write(DATA)
        finally:
            await upload.abort()

    for delay in (0, 0.001, 0.005):
        task = asyncio.ensure_future(receive())
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert files(tmp_path) == []


async def test_a_reader_that_stops_early_closes_the_file(on_disk: DiskBlobs) -> None:
    await put(on_disk)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        reader: Any = on_disk.read("a", BLOB, 10)
        await anext(reader)
        await reader.aclose()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squall.filesystem._magic", lambda _path: 0x517B)
    blobs = DiskBlobs(tmp_path)
    with pytest.raises(StoreError, match="SMB"):
        await blobs.open()
    await blobs.close()


async def test_after_close_it_says_so(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path)
    await blobs.open()
    await blobs.close()
    with pytest.raises(StoreError, match="shutting down"):
        await blobs.has("a", BLOB)
