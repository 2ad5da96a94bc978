"""Numbers of dispatched attempts of durable inputs, on their way to disk.

Dispatch does not wait for it: an attempt whose number was not written when the server died is announced by
its node, and the first output of an input stays whatever its number. So numbers wait a moment for company,
and those of inputs that have ended meanwhile are of no use to anybody.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from squall.store.base import StoreError

if TYPE_CHECKING:
    from squall.server.model import Input
    from squall.server.tasks import Tasks
    from squall.store.base import Store

log = logging.getLogger("squall.server")

#: Seconds that a number waits for others: a write of its own is a sync of the disk.
LINGER_S = 0.02


class AttemptLog:
    """Writes what has gathered, one write at a time."""

    def __init__(self, store: Store, tasks: Tasks) -> None:
        self._store = store
        self._tasks = tasks
        self._waiting: list[Input] = []
        self._writing = False

    def add(self, entry: Input) -> None:
        self._waiting.append(entry)
        if not self._writing:
            self._writing = True
            self._tasks.spawn(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(LINGER_S)
                waiting, self._waiting = self._waiting, []
                rows = [(e.call.id, e.index, e.attempt) for e in waiting if e.output is None]
                if rows:
                    await self._store.set_attempts(rows)
        except StoreError as error:
            log.error("numbers of attempts were not written: %s", error)  # noqa: TRY400 - one line is enough
        finally:
            self._writing = False
