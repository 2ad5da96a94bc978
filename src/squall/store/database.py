"""Opening the database file: private, on a local disk, durable, whole, of a schema that is known."""

from __future__ import annotations

import os
import sqlite3

from squall.store.base import StoreError
from squall.store.errors import damaged, refuse_network
from squall.store.schema import migrate

#: Pages of the write-ahead log before they are copied into the database, and what is kept of the file after.
_CHECKPOINT_PAGES = 4000
_LOG_BYTES = 64 << 20
#: A database up to this many bytes is checked as a whole when it is opened (some tens of milliseconds).
_CHECKED_BYTES = 64 << 20
#: Seconds to wait for another process to let go of it.
_PATIENCE = 5.0


def open_database(path: str, *, network: bool = False) -> sqlite3.Connection:
    """The connection that writes. `network` allows network file systems.

    Raises StoreError, sqlite3.Error, OSError.
    """
    directory = os.path.dirname(os.path.abspath(path))
    os.makedirs(directory, mode=0o700, exist_ok=True)
    if not network:
        refuse_network(directory)
    _make_private(path)
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        _set_up(connection, path)
        migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: str) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _make_private(path: str) -> None:
    """Mode 0600 before SQLite sees it: the log and the shared memory beside it get the same."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return
    if mode & 0o077:
        os.chmod(path, 0o600)


def _set_up(connection: sqlite3.Connection, path: str) -> None:
    if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise StoreError(
            f"the disk of {path} cannot hold a write-ahead log: set SQUALL_STATE to a local disk"
        )
    for setting in (
        "synchronous = FULL",
        "foreign_keys = ON",
        f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
        f"journal_size_limit = {_LOG_BYTES}",
    ):
        connection.execute(f"PRAGMA {setting}")
    if os.path.getsize(path) <= _CHECKED_BYTES:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StoreError(damaged(path, " ".join(str(found).split())))
