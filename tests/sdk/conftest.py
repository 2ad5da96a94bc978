"""A server in memory that everything without `client=` reaches, and modules of a test's own."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from squall.sdk import handles, modes, output
from tests.sdk.fake_client import FakeAsyncClient, FakeClient, FakeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    server = FakeServer()

    async def connect_async(*, start: bool = True, environment: str = "") -> FakeAsyncClient:
        return FakeAsyncClient(server)

    monkeypatch.setattr("squall.client.connect.connect", lambda **_: FakeClient(server))
    monkeypatch.setattr("squall.client.connect.connect_async", connect_async)
    monkeypatch.setattr(modes, "_clients", {})
    monkeypatch.setattr(handles.OfContainer, "_functions", None)
    monkeypatch.delenv("SQUALL_IS_REMOTE", raising=False)
    yield server
    output.active = None


@pytest.fixture
def in_container(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUALL_IS_REMOTE", "1")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], Path]]:
    """Writes files into a folder of the test's own, which is first on sys.path."""
    before = set(sys.modules)
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.syspath_prepend(str(root))

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()
        return root

    yield write
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def load(project: Callable[[dict[str, str]], Path]) -> Callable[..., Any]:
    """Imports a module of this source, with `app` and the usual names in it."""

    def load(source: str, name: str = "sdk_example") -> Any:
        head = "from __future__ import annotations\nimport squall\napp = squall.App('example')\n"
        project({f"{name}.py": head + source})
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    return load
