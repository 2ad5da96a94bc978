"""Endpoints, GPUs, command line, journal, records, the copy of squall, transfers."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from squall.node import outcomes, records, resources, squallcopy
from squall.node.endpoint import Endpoint
from squall.node.journal import AHEAD, Journal, Noted
from squall.node.main import node_id, parse
from squall.node.transfers import TransferError, Transfers
from squall.runner.protocol import BadFrame
from squall.wire.hashing import blob_id
from squall.wire.messages import BlobChunk, BlobFetch, Failure, StartContainer
from squall.wire.values import FunctionSpec, Payload, Recipe
from tests.house.slowness import SLOWNESS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("unix:/x/y.sock", Endpoint(path="/x/y.sock")),
        ("ws://host:7000", Endpoint(host="host", port=7000)),
        ("wss://host", Endpoint(host="host", port=443, tls=True)),
        ("https://host/", Endpoint(host="host", port=443, tls=True)),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(text) == endpoint


@pytest.mark.parametrize("text", ["", "unix:", "host:80", "ftp://host", "ws://host/path", "ws://"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="unix:PATH"):
        Endpoint.parse(text)


@pytest.mark.parametrize("text", ["H100:x", ":3", "H100:0", "H100:-1"])
def test_what_are_no_gpus(text: str) -> None:
    with pytest.raises(ValueError, match="TYPE:COUNT"):
        resources.parse_gpus(text)


def test_the_token_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUALL_TOKEN", "secret")
    settings = parse(["--state", str(tmp_path), "--server", "unix:/s", "--driver", "process"])
    assert settings.token == "secret"
    assert settings.node == node_id(tmp_path)  # kept


@pytest.mark.parametrize(
    "arguments",
    [
        ["--server", "nowhere"],
        ["--server", "unix:/s", "--driver", "namespaces"],
        ["--server", "unix:/s", "--driver", "process", "--gpus", "x:y"],
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(["--state", str(tmp_path), *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().err


def test_a_launcher_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "squall.node", "--state", str(tmp_path), "--server", "unix:/nowhere"]
    done = subprocess.run(
        [*command, "--launcher", str(tmp_path / "no.sock")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60 * SLOWNESS,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("squall node: no launcher at")
    assert done.stderr.count("\n") == 1


def test_a_journal_lasts(tmp_path: Path) -> None:
    first = Journal(tmp_path / "inputs")
    first.add(3, "fc-a:1", 1)
    first.add(1, "fc-a:0", 2)
    first.add(9, "fc-b:0", 1)
    first.remove(3)
    second = Journal(tmp_path / "inputs")  # the first one's life ended without a word
    assert second.noted() == [Noted(1, "fc-a:0", 2), Noted(9, "fc-b:0", 1)]
    second.remove(1)
    second.add(10, "fc-c:0", 1)
    assert [n.number for n in second.noted()] == [9, 10]
    first.close()
    second.close()


def test_a_journal_does_not_overflow(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "inputs")
    for number in range(1, AHEAD + 50):
        journal.add(number, f"fc-x:{number}", 1)
    assert len(journal.noted()) == AHEAD + 1
    journal.add(10_000, "fc-" + "x" * 500 + ":0", 1)
    for number in range(1, AHEAD + 50):
        journal.remove(number)
    assert journal.noted() == []
    journal.close()


def test_records_come_back(tmp_path: Path) -> None:
    spec = FunctionSpec("f", "work", "f", "im-1")
    start = StartContainer("ct-1", "fu-1", spec, "ap-1", "w", "main", 1, Recipe("debian_slim"), {})
    record = records.of(tmp_path, start)
    record.save(["/l/a"])
    assert record.layers == ["/l/a"]
    (tmp_path / "ct-2").mkdir()
    (tmp_path / "ct-2" / "order").write_bytes(b"nonsense")
    assert records.load_all(tmp_path) == {"ct-1": record}
    record.remove()
    assert records.load_all(tmp_path) == {}
    assert records.load_all(tmp_path / "nowhere") == {}


def test_the_copy_that_containers_see(tmp_path: Path) -> None:
    copy = squallcopy.ensure(tmp_path)
    assert squallcopy.ensure(tmp_path) == copy
    found = importlib.util.spec_from_file_location("x", copy / "squall" / "runner" / "main.py")
    assert found is not None
    assert found.cached is not None
    with open(found.cached, "rb") as file:
        assert file.read(8)[4:] == b"\1\0\0\0"  # valid whatever the time of its source
    assert {p.name for p in copy.iterdir()} == {"squall", "cloudpickle"}
    assert not (copy / "squall" / "server").exists()
    code = f"import sys; sys.path.insert(0, {str(copy)!r}); import squall.runner.main, squall; squall.App"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=60 * SLOWNESS)


@pytest.mark.parametrize(
    "held",
    [
        "text",
        [[1, "fc:0", 1]] * 2,
        [[1, "fc", 1]],
        [["1", "fc:0", 1]],
        [[0, "fc:0", 1]],
        [[1, "fc:0"]],
        [[1, "x" * 300 + ":0", 1]],
        [[n, "fc:0", 1] for n in range(1, 2000)],
    ],
)
def test_claims_of_runners_are_checked(held: object) -> None:
    with pytest.raises(BadFrame):
        outcomes.held({"held": held}, 1024)


def test_words_of_runners_are_bounded() -> None:
    header = {"s": "exception", "type": "T" * 10_000, "message": 5, "tb": "\ud800" + "x" * 1_000_000}
    outcome = outcomes.of(header, 0, Payload(b"p"))
    assert outcome.error is not None
    assert len(outcome.error.type) == 200
    assert outcome.error.message == ""
    assert outcome.error.traceback.startswith("?x")
    assert len(outcome.error.traceback) < 200_000


class Wire:
    """A link that keeps what is sent."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.sent: list[object] = []

    def send(self, *messages: object) -> None:
        self.sent += messages

    def buffered(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([(0, b"wrong", True)], "damaged"),
        ([(3, b"late", True)], "out of order"),
        ([(0, b"x" * 200, True)], "over 100 bytes"),
        (None, "no such blob"),
    ],
)
def test_bad_blobs(tmp_path: Path, answer: list[tuple[int, bytes, bool]] | None, expected: str) -> None:
    async def scenario() -> None:
        wire = Wire()
        transfers = Transfers(wire)
        with (tmp_path / "file").open("w+b") as file:
            task = asyncio.create_task(transfers.download(blob_id(b"right"), "w", file.fileno(), 100))
            await asyncio.sleep(0)
            (fetch,) = wire.sent
            assert isinstance(fetch, BlobFetch)
            if answer is None:
                transfers.received(Failure(fetch.id, "not_found", "no such blob"))
            for offset, data, last in answer or []:
                transfers.received(BlobChunk(fetch.id, fetch.blob, offset, data, last))
            with pytest.raises(TransferError, match=expected):
                await task

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({"a": 1.0, "b": 1.5, "c": 9.0}, [("A", 1.0), ("B", 1.5)]),
        ({"a": 0.5, "b": 1.5}, [("B", 1.5)]),
        ({"a": 1.7, "b": 1.5}, [("A", 1.7)]),
        ({"a": float("nan"), "b": float("inf"), "c": "1.5"}, []),
        ({"a": 1, "b": True, "c": None, "d": 1.5}, []),
        ([1.5, 1.6], []),
        ("1.5", []),
        (None, []),
    ],
)
def test_of_a_runners_times_only_those_count_that_can_be_true(told: object, kept: list[object]) -> None:
    names = (("A", "a"), ("B", "b"), ("C", "c"))
    assert outcomes.moments({"t": told}, names, 1.0, 2.0) == kept


@pytest.mark.parametrize(("header", "count"), [({"n": 5}, 5), ({}, 0), ({"n": -1}, 0), ({"n": True}, 0)])
def test_how_many_values_a_runner_says_it_gave(header: dict[str, object], count: int) -> None:
    assert outcomes.count(header) == count
