"""A disk that is full, and one that turns read-only: a small ext4 of our own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from squall.store.base import CallRecord, InputRecord, StoreError
from squall.store.disk import DiskBlobs
from squall.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.root]

CALL = CallRecord("fc-0", "default", "main", "fu-1", "unary", 1.0)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a loop mount needs root")
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4")
    image, point = tmp_path / "disk.img", tmp_path / "disk"
    point.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 6 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m0", image], check=True, capture_output=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop", image, point], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"this host does not loop-mount: {mounted.stderr.strip()}")
    yield point
    subprocess.run(["umount", point], check=True)


async def write_until_full(store: SqliteStore) -> set[str]:
    """The calls that were acknowledged."""
    acknowledged: set[str] = set()
    for group in range(1000):
        ids = [f"fc-{group}-{n}" for n in range(20)]
        results = await asyncio.gather(
            *(store.add_inputs(replace(CALL, id=i), [InputRecord(i, 0, os.urandom(5000))]) for i in ids),
            return_exceptions=True,
        )
        acknowledged |= {i for i, result in zip(ids, results, strict=True) if result is None}
        errors = [result for result in results if result is not None]
        if errors:
            assert all(isinstance(error, StoreError) for error in errors), errors
            assert all("is full: free some space" in str(error) for error in errors), errors
            return acknowledged
    raise AssertionError("the disk was never full")


def fill(path: Path) -> None:
    """With a file of all the space there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))


def make_read_only(mount: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)


async def stored(store: SqliteStore) -> set[str]:
    return {call.id for call, _ in await store.unfinished()}


async def test_a_full_disk_loses_nothing_and_is_survived(small: Path) -> None:
    ballast = small / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    store = SqliteStore(small / "db.sqlite")
    await store.open()
    acknowledged = await write_until_full(store)
    assert acknowledged
    assert acknowledged <= await stored(store)  # reading goes on
    ballast.unlink()
    await store.add_inputs(replace(CALL, id="fc-after"), [InputRecord("fc-after", 0, b"x")])
    await store.close()
    store = SqliteStore(small / "db.sqlite")
    await store.open()
    assert acknowledged | {"fc-after"} <= await stored(store)
    await store.close()


async def test_a_server_cannot_start_on_a_full_disk_and_says_why(small: Path) -> None:
    fill(small / "ballast")
    with pytest.raises(StoreError, match="is full: free some space"):
        await SqliteStore(small / "db.sqlite").open()
    (small / "ballast").unlink()
    store = SqliteStore(small / "db.sqlite")
    await store.open()
    await store.close()


async def test_a_read_only_disk_is_named(small: Path) -> None:
    store = SqliteStore(small / "db.sqlite")
    await store.open()
    await store.close()
    make_read_only(small)
    with pytest.raises(StoreError, match="is read-only: make it writable"):
        await SqliteStore(small / "db.sqlite").open()
    with pytest.raises(StoreError, match="is read-only"):
        await SqliteStore(small / "new.sqlite").open()


async def test_a_blob_that_does_not_fit(small: Path) -> None:
    blobs = DiskBlobs(small / "blobs")
    await blobs.open()
    data = os.urandom(1 << 20)
    upload = await blobs.begin("a", "0" * 64)
    with pytest.raises(StoreError, match="is full"):  # noqa: PT012 - until it raises
        while True:
            await upload.write(data)
    await upload.abort()
    blob = hashlib.sha256(data).hexdigest()
    upload = await blobs.begin("a", blob)
    await upload.write(data)
    await upload.finish()
    assert await blobs.size("a", blob) == len(data)
    await blobs.close()
