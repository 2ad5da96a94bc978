"""A control plane in memory for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.fakes import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = await World().start()
    yield made
    await made.stop()
