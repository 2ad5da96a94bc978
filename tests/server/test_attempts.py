"""Numbers of attempts on their way to disk: together, and none of inputs that have ended."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from squall.server.attempts import AttemptLog
from squall.server.tasks import Tasks


class _Store:
    def __init__(self) -> None:
        self.writes: list[list[tuple[str, int, int]]] = []

    async def set_attempts(self, attempts: list[tuple[str, int, int]]) -> None:
        self.writes.append(list(attempts))


def test_numbers_gather_and_those_of_ended_inputs_are_left_out() -> None:
    async def scenario() -> None:
        store, tasks = _Store(), Tasks()
        log = AttemptLog(store, tasks)  # type: ignore[arg-type]
        entries: list[Any] = [
            SimpleNamespace(call=SimpleNamespace(id="fc-1"), index=n, attempt=n + 1, output=None)
            for n in range(3)
        ]
        for entry in entries:
            log.add(entry)
        entries[1].output = object()
        await tasks.settle(10)
        assert store.writes == [[("fc-1", 0, 1), ("fc-1", 2, 3)]]

    asyncio.run(scenario())
