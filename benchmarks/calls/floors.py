"""What the machine alone takes for the dearest part of an operation: no call can be quicker in our way."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from typing import TYPE_CHECKING

from benchmarks.calls.measures import Floor, median
from benchmarks.calls.peer import seconds_of
from squall.runner.protocol import spool

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.calls.measures import Measure

#: About what a small spawned call takes on disk.
RECORD = bytes(300)


class Floors:
    """Use as a context: its files, on the file system of the peers', go at the end."""

    def __enter__(self) -> Floors:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-floors-")
        self._log = os.open(f"{self._folder.name}/log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._database = sqlite3.connect(f"{self._folder.name}/db", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE calls (id INTEGER PRIMARY KEY, record BLOB)")
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        os.close(self._log)
        self._folder.cleanup()

    def seconds(self, measure: Measure) -> dict[str, float]:
        """Of one operation each, one after another; as many as the measure has."""
        ways: dict[str, Callable[[], object]] = {}
        if measure.floor is Floor.DISK:
            ways["a record appended, and fdatasync"] = self._append
            ways["a row committed by SQLite"] = self._commit
        elif measure.floor is Floor.MEMORY:
            data = bytes(measure.arguments[1])
            ways["into a fresh memory file and out again, twice"] = lambda: _passed(_passed(data))
        count = measure.arguments[0]
        return {name: median([seconds_of(way) for _ in range(count)]) for name, way in ways.items()}

    def _append(self) -> None:
        os.write(self._log, RECORD)
        os.fdatasync(self._log)

    def _commit(self) -> None:
        self._database.execute("INSERT INTO calls (record) VALUES (?)", (RECORD,))


def _passed(data: bytes) -> bytes:
    """As a program gives it to a runner, or gets it from one, without anybody between."""
    pickled = spool.dump(data, 1 << 31)
    passed: bytes = spool.load(pickled if isinstance(pickled, bytes) else pickled.view(), copy=True)
    return passed
