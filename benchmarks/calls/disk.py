"""What the disk alone takes: the floor of everything that is safe before it is acknowledged."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from typing import TYPE_CHECKING

from benchmarks.calls.measures import median
from benchmarks.calls.peer import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: About what a small spawned call takes.
RECORD = bytes(300)


class Disk:
    """Use as a context: its files, beside those of the peers, go at the end."""

    def __enter__(self) -> Disk:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-disk-")
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

    def seconds(self, count: int) -> dict[str, float]:
        """Of one operation each, one after another."""
        ways: dict[str, Callable[[], object]] = {
            "a record appended, and fdatasync": self._append,
            "a row committed by SQLite": self._commit,
        }
        return {name: median([seconds_of(way) for _ in range(count)]) for name, way in ways.items()}

    def _append(self) -> None:
        os.write(self._log, RECORD)
        os.fdatasync(self._log)

    def _commit(self) -> None:
        self._database.execute("INSERT INTO calls (record) VALUES (?)", (RECORD,))
