"""One thread that writes: what many callers ask for at a time goes to disk in one synced transaction."""

from __future__ import annotations

import queue
import sqlite3
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from squall.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[sqlite3.Connection], Any]

#: The most writes in one transaction.
GROUP = 512


class Writer:
    """Group commit: a caller's future is done after COMMIT has synced; a bad write fails alone (savepoints)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[tuple[Work, Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> Future[Any]:
        future: Future[Any] = Future()
        self._queue.put((work, future))
        return future

    def close(self) -> None:
        """Finish what was submitted."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group, last = [first], False
            while len(group) < GROUP and not self._queue.empty():
                item = self._queue.get()
                if item is None:
                    last = True
                    break
                group.append(item)
            self._commit(group)
            if last:
                return

    def _commit(self, group: list[tuple[Work, Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for work, future in group:
                self._one(work, future, done)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            failure = StoreError(explain(error))
            for _, future in group:
                if not future.done():
                    future.set_exception(failure)
            return
        for future, result in done:
            future.set_result(result)

    def _one(self, work: Work, future: Future[Any], done: list[tuple[Future[Any], Any]]) -> None:
        self._connection.execute("SAVEPOINT one")
        try:
            done.append((future, work(self._connection)))
        except sqlite3.IntegrityError as error:
            self._connection.execute("ROLLBACK TO one")
            future.set_exception(StoreError(f"the record was refused: {error}"))
        self._connection.execute("RELEASE one")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def explain(error: sqlite3.Error) -> str:
    """One line for a user: what happened and what to do."""
    text = str(error)
    if "full" in text:
        return "the disk of the state directory is full: free some space; nothing that was acknowledged is lost"
    if "readonly" in text or "read-only" in text:
        return "the state directory is read-only: make it writable or set SQUALL_STATE to another directory"
    if "malformed" in text or "not a database" in text or "corrupt" in text:
        return "the database is damaged: restore a backup, or move db.sqlite away to start afresh"
    return f"the database failed: {text}"
