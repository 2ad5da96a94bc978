"""A running transport for each adapter, and the two ways to reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from squall.server.transport.serve import Transport
from tests.server.transport_kit import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.server.transport_kit import Server


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(params=["picows", "plain"])
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def server(adapter: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with running(str(tmp_path / "run" / "s.sock"), Transport(adapter=adapter)) as made:
        yield made


@pytest.fixture(params=["unix", "tcp"])
def where(request: pytest.FixtureRequest, server: Server) -> str | int:
    return server.path if request.param == "unix" else server.port
