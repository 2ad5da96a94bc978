from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from squall.store.base import NotFound
from squall.store.disk import DiskBlobs

if TYPE_CHECKING:
    from pathlib import Path

DATA = b"squall" * 1000
BLOB = hashlib.sha256(DATA).hexdigest()


async def put(blobs: DiskBlobs, blob: str = BLOB) -> None:
    upload = await blobs.begin("a", blob)
    await upload.write(DATA[:100])
    await upload.write(DATA[100:])
    await upload.finish()


def test_round_trip_within_its_workspace(tmp_path: Path) -> None:
    async def main() -> None:
        blobs = DiskBlobs(tmp_path)
        assert not await blobs.has("a", BLOB)
        await put(blobs)
        assert b"".join([c async for c in blobs.read("a", BLOB, 1000)]) == DATA
        assert await blobs.size("a", BLOB) == len(DATA)
        assert not await blobs.has("b", BLOB)

    asyncio.run(main())


def test_wrong_content_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="not what"):
            await put(DiskBlobs(tmp_path), "0" * 64)

    asyncio.run(main())
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "x" * 64, "." * 64])
def test_ids_that_are_no_ids_are_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound):
        asyncio.run(DiskBlobs(tmp_path).has("a", name))
