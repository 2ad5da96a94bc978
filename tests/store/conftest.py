"""Stores and blobs to run one suite on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from squall.store.disk import DiskBlobs
from squall.store.memory import MemoryBlobs, MemoryStore
from squall.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from squall.store.base import Blobs, Store


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(params=["sqlite", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "db.sqlite")
    await made.open()
    yield made
    await made.close()


@pytest.fixture(params=["disk", "memory"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Blobs]:
    made: Blobs = MemoryBlobs() if request.param == "memory" else DiskBlobs(tmp_path / "blobs")
    await made.open()
    yield made
    await made.close()
