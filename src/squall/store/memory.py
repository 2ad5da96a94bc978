"""The shipped double of the store: the same answers, nothing survives. It is SQLite in memory, less the disk."""

from __future__ import annotations

import sqlite3

from squall.store.schema import MIGRATIONS
from squall.store.sqlite import SqliteStore
from squall.store.writer import Writer


class MemoryStore(SqliteStore):
    """One shared in-memory database; needs no directory."""

    def __init__(self) -> None:  # the path of the base class has no meaning here
        self._reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None

    async def open(self) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA foreign_keys=ON")
        for script in MIGRATIONS:
            connection.executescript(script)
        self._reader = connection
        self._writer = Writer(connection)
