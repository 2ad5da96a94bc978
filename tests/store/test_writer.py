"""Group commit, with the thread held back so that groups form."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

import pytest

from squall.store import writer
from squall.store.base import StoreError
from squall.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Bench:
    """A writer, the statements that it ran, and a gate that holds its thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("CREATE TABLE t (x INTEGER CHECK (x < 100))")
        self.statements: list[str] = []
        self.connection.set_trace_callback(self.statements.append)
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.writer = Writer(self.connection, str(path))

    def hold(self) -> Future[Any]:
        """What is submitted from now on until `gate` opens is one group."""

        def wait(_db: sqlite3.Connection) -> None:
            self.entered.set()
            self.gate.wait()

        future = self.writer.submit(wait)
        assert self.entered.wait(10)
        return future

    def insert(self, value: object, *, lazy: bool = False) -> Future[Any]:
        def work(db: sqlite3.Connection) -> int:
            return db.execute("INSERT INTO t VALUES (?)", (value,)).rowcount

        return self.writer.submit(work, lazy=lazy)

    def rows(self) -> list[int]:
        with sqlite3.connect(self.path) as db:
            found = [x for (x,) in db.execute("SELECT x FROM t ORDER BY x")]
        db.close()
        return found

    def commits(self) -> int:
        return self.statements.count("COMMIT")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "db.sqlite")
    yield made
    made.gate.set()
    made.writer.close()


def test_a_group_is_one_transaction(bench: Bench) -> None:
    bench.hold()
    futures = [bench.insert(n) for n in range(50)]
    bench.gate.set()
    assert [f.result(10) for f in futures] == [1] * 50
    assert bench.commits() == 2  # the gate's, and the group's
    assert bench.rows() == list(range(50))


def test_nobody_is_told_before_the_commit(bench: Bench) -> None:
    bench.hold()
    first = bench.insert(1)
    seen: list[bool] = []
    second = bench.writer.submit(lambda _db: seen.append(first.done()))
    bench.gate.set()
    second.result(10)
    assert seen == [False]


@pytest.mark.parametrize("bad", [1000, 1 << 80, object()], ids=["constraint", "overflow", "type"])
def test_a_bad_job_fails_alone(bench: Bench, bad: object) -> None:
    bench.hold()
    before, failing, after = bench.insert(1), bench.insert(bad), bench.insert(2)
    bench.gate.set()
    assert (before.result(10), after.result(10)) == (1, 1)
    assert failing.exception(10) is not None
    assert bench.commits() == 2
    assert bench.rows() == [1, 2]


def test_a_bad_job_leaves_nothing_of_itself(bench: Bench) -> None:
    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO t VALUES (7)")
        raise LookupError("nothing")

    with pytest.raises(LookupError):
        bench.writer.submit(half).result(10)
    assert bench.rows() == []


def test_when_the_transaction_fails_each_is_tried_by_itself(bench: Bench) -> None:
    """As a full disk does it: SQLite ends the whole transaction at one job's statement."""

    def ruin(db: sqlite3.Connection) -> None:
        db.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    bench.hold()
    before, failing, after = bench.insert(1), bench.writer.submit(ruin), bench.insert(2)
    bench.gate.set()
    assert (before.result(10), after.result(10)) == (1, 1)
    with pytest.raises(StoreError, match="is full: free some space"):
        failing.result(10)
    assert bench.rows() == [1, 2]


def test_a_cancelled_job_is_dropped_and_harms_nobody(bench: Bench) -> None:
    bench.hold()
    dropped, kept = bench.insert(1), bench.insert(2)
    assert dropped.cancel()
    bench.gate.set()
    assert kept.result(10) == 1
    with pytest.raises(CancelledError):
        dropped.result(10)
    assert bench.rows() == [2]


def test_close_finishes_what_was_submitted(bench: Bench) -> None:
    bench.hold()
    futures = [bench.insert(n) for n in range(20)]
    bench.gate.set()
    bench.writer.close()
    assert all(f.done() for f in futures)
    assert bench.rows() == list(range(20))
    with pytest.raises(StoreError, match="shutting down"):
        bench.insert(1)


def test_who_can_wait_goes_with_who_cannot(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 60.0)
    lazy = bench.insert(1, lazy=True)
    with pytest.raises(FutureTimeoutError):
        lazy.result(0.2)
    assert bench.insert(2).result(10) == lazy.result(10) == 1
    assert bench.commits() == 1
    assert bench.rows() == [1, 2]


def test_who_can_wait_does_not_wait_for_ever(bench: Bench) -> None:
    assert bench.insert(1, lazy=True).result(10) == 1
    assert bench.rows() == [1]


def test_the_end_waits_for_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 60.0)
    lazy = bench.insert(1, lazy=True)
    bench.writer.close()
    assert lazy.result(0) == 1
