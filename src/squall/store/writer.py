"""Group commit: one thread writes, and what many callers ask for at a time is one synced transaction."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from squall.store.base import StoreError
from squall.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[sqlite3.Connection], Any]
    #: The work, its future, and whether it can wait.
    Job = tuple[Work, Future[Any], bool]

#: The most writes in one transaction.
GROUP = 1024
#: Seconds that jobs which can wait do so for one that cannot, whose sync is theirs too.
PATIENCE_S = 0.003


class Writer:
    """A job's future is done after the COMMIT that holds it has synced. A job that fails, fails alone.

    Jobs may run twice (when the group's transaction fails they are tried one by one), so all that they do,
    they do to the database.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work, *, lazy: bool = False) -> Future[Any]:
        """Cancelling the future drops a job that has not begun; a `lazy` one waits a moment for company.

        Raises StoreError after `close`.
        """
        future: Future[Any] = Future()
        with self._lock:  # nothing may come behind the None that ends the thread
            if not self._open:
                raise StoreError("the server is shutting down: try again when it is back")
            self._jobs.put((work, future, lazy))
        return future

    def close(self) -> None:
        """Finish what was submitted and close the connection."""
        with self._lock:
            if self._open:
                self._open = False
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            jobs, more = self._take()
            group = [job for job in jobs if job[1].set_running_or_notify_cancel()]
            if group:
                self._write(group)
        self._connection.close()

    def _take(self) -> tuple[list[Job], bool]:
        """What has gathered while the last group was synced; False with the last of all."""
        jobs: list[Job] = []
        job = self._jobs.get()
        until = time.monotonic() + PATIENCE_S
        lazy = True
        while job is not None:
            jobs.append(job)
            lazy = lazy and job[2]
            if len(jobs) == GROUP:
                return jobs, True
            try:
                job = self._jobs.get(timeout=max(0.0, until - time.monotonic()) if lazy else 0.0)
            except queue.Empty:
                return jobs, True
        return jobs, False

    def _write(self, group: list[Job]) -> None:
        try:
            outcomes = self._transaction(group)
        except Exception as error:
            self._roll_back()
            if len(group) == 1:
                group[0][1].set_exception(self._failure(error))
                return
            for job in group:
                self._write([job])
            return
        for (_, future, _), (result, failure) in zip(group, outcomes, strict=True):
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)

    def _transaction(self, group: list[Job]) -> list[tuple[Any, BaseException | None]]:
        """(result, exception) of each job. Raises when nothing of it was written."""
        self._connection.execute("BEGIN IMMEDIATE")
        outcomes = [self._attempt(work) for work, _, _ in group]
        self._connection.execute("COMMIT")
        return outcomes

    def _attempt(self, work: Work) -> tuple[Any, BaseException | None]:
        self._connection.execute("SAVEPOINT job")
        try:
            result = work(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # a full disk has ended all of it
            self._connection.execute("ROLLBACK TO job")
            self._connection.execute("RELEASE job")
            return None, self._failure(error)
        self._connection.execute("RELEASE job")
        return result, None

    def _failure(self, error: Exception) -> Exception:
        return store_error(error, self._path) if isinstance(error, sqlite3.Error) else error

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
