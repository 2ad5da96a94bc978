"""The examples, with a server in memory and a double of the model."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from squall.wire.values import Batching
from tests.house.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sdk.fake_client import FakeServer


class Magika:
    """Tells text from data."""

    def identify_bytes(self, content: bytes) -> Any:
        return SimpleNamespace(output=SimpleNamespace(label="data" if b"\0" in content else "text"))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    magika: Any = ModuleType("magika")
    magika.Magika = Magika
    monkeypatch.setitem(sys.modules, "magika", magika)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    loaded: list[str] = []

    def load(name: str) -> Any:
        loaded.append(name)
        return importlib.import_module(name)

    yield load
    for name in loaded:
        del sys.modules[name]


def test_hello(load: Any, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    hello = load("hello")
    with hello.app.run():
        hello.main(3)
    assert "one call: 49\na map: [0, 1, 4]\n" in capsys.readouterr().out.replace("squaring 7\n", "").replace(
        "squaring 0\nsquaring 1\nsquaring 2\n", ""
    )


def test_model_class(load: Any, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    example = load("model_class")
    with example.app.run():
        example.main("json", "decode document")
    out = capsys.readouterr().out
    assert re.search(r"indexed \d+ names of json in \d+ ms", out)
    assert "'decode document':\n  json.decoder.raw_decode: Decode a JSON document" in out
    assert out.count("indexed") == 1
    assert example.Index(package="json").find.local("no such words whatsoever zzz", 1) != []
    with pytest.raises(SystemExit, match="no package nonsense"):
        example.Index(package="nonsense").find.local("x")


def test_classify_files(
    load: Any,
    server: FakeServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = load("classify_files")
    monkeypatch.setattr(example, "FILE_BYTES", 1000)
    for number in range(120):
        path = tmp_path / f"d{number % 3}" / f"{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("x" * number)
    (tmp_path / "large.bin").write_bytes(bytes(5000))
    (tmp_path / "link").symlink_to("large.bin")
    (tmp_path / "loop").symlink_to(".")
    with example.app.run():
        example.main(str(tmp_path), 2000)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["kind", "files", "bytes"],
        ["text", "120", str(sum(range(120)))],
        ["data", "1", "5000"],
        ["total", "121", str(sum(range(120)) + 5000)],
    ]
    (call,) = server.calls.values()
    assert len(call.inputs) == 3


def test_classify_files_stops_at_the_limit(load: Any, tmp_path: Path) -> None:
    example = load("classify_files")
    for number in range(9):
        (tmp_path / f"{number}").write_text("x")
    assert [p[-1] for p in example.find(str(tmp_path), 4)] == ["0", "1", "2", "3"]
    with pytest.raises(SystemExit, match="no readable files"):
        example.main(str(tmp_path / "nothing"), 3)


def test_batched_model(load: Any, server: FakeServer) -> None:
    example = load("batched_model")
    with example.app.run():
        (app,) = server.apps.values()
        assert app.specs["score"].batching == Batching(64, 0.05)
