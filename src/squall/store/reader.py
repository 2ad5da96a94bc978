"""Reads on threads of their own: a long one (all outputs of a call) holds up neither loop nor writer."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from squall.store.base import StoreError
from squall.store.database import open_reader
from squall.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Sequence

#: One may be busy with a long read while the other goes on.
THREADS = 2

Rows = list[tuple[Any, ...]]


class Reader:
    """Each read sees every write that finished before it began: it is a transaction of its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store-reader")

    async def rows(self, sql: str, args: Sequence[object]) -> Rows:
        """Raises StoreError."""
        try:
            read = asyncio.get_running_loop().run_in_executor(self._pool, self._fetch, sql, args)
        except RuntimeError:  # the pool was shut down
            raise StoreError("the server is shutting down: try again when it is back") from None
        return await read

    def close(self) -> None:
        """Finish what was asked."""
        self._pool.shutdown(wait=True)
        for connection in self._opened:
            connection.close()

    def _fetch(self, sql: str, args: Sequence[object]) -> Rows:
        try:
            return self._connection().execute(sql, args).fetchall()
        except sqlite3.Error as error:
            raise store_error(error, self._path) from None

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reader(self._path)
            self._opened.append(connection)
        return connection
