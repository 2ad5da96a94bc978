"""Work that takes more than one turn of the event loop: kept alive, in order, logged when it fails."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

log = logging.getLogger("squall.server")


class Tasks:
    """Background tasks. asyncio keeps only weak references to them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task failed", exc_info=task.exception())

    async def settle(self, seconds: float) -> None:
        """Give running tasks a while to end, then cancel them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        pending = list(self._tasks)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


class Strands:
    """Jobs of one key run one after the other, in the order given; those that need not wait run at once."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._waiting: dict[str, deque[Callable[[], Coroutine[Any, Any, None] | None]]] = {}

    def run(self, key: str, job: Callable[[], Coroutine[Any, Any, None] | None]) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(job)
            return
        work = job()
        if work is not None:
            self._waiting[key] = deque()
            self._tasks.spawn(self._go_on(key, work))

    def idle(self, key: str) -> bool:
        """Whether a job of this key would run at once."""
        return key not in self._waiting

    def together(self, keys: Sequence[str], work: Coroutine[Any, Any, None]) -> None:
        """One piece of work that is a job of each of these keys, which are idle."""
        for key in keys:
            self._waiting[key] = deque()
        self._tasks.spawn(self._all(keys, work))

    async def _all(self, keys: Sequence[str], work: Coroutine[Any, Any, None]) -> None:
        try:
            await _logged(work)
        finally:
            for key in keys:
                waiting = self._waiting.pop(key)
                for job in waiting:
                    self.run(key, job)

    async def _go_on(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        waiting = self._waiting[key]
        try:
            await _logged(work)
            while waiting:
                more = waiting.popleft()()
                if more is not None:
                    await _logged(more)
        finally:
            del self._waiting[key]


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    """One job's failure must not keep the next from running."""
    try:
        await work
    except Exception:
        log.exception("a job failed")
