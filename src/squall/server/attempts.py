"""Numbers of dispatched attempts of durable inputs, on their way to disk.

Dispatch does not wait for it: an attempt whose number was not written when the server died is announced by
its node, and the first output of an input stays whatever its number.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from squall.store.base import StoreError

if TYPE_CHECKING:
    from squall.server.model import Input
    from squall.server.tasks import Tasks
    from squall.store.base import Store

log = logging.getLogger("squall.server")


class AttemptLog:
    """Writes what has gathered, one write at a time."""

    def __init__(self, store: Store, tasks: Tasks) -> None:
        self._store = store
        self._tasks = tasks
        self._waiting: list[tuple[str, int, int]] = []
        self._writing = False

    def add(self, entry: Input) -> None:
        self._waiting.append((entry.call.id, entry.index, entry.attempt))
        if not self._writing:
            self._writing = True
            self._tasks.spawn(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                await self._store.set_attempts(waiting)
        except StoreError as error:
            log.error("numbers of attempts were not written: %s", error)  # noqa: TRY400 - one line is enough
        finally:
            self._writing = False
