"""Squall with an embedded server of its own, and whichever driver the host allows: `driver` says which."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.calls import functions
from benchmarks.calls.peer import AT_ONCE, Peer, seconds_of

if TYPE_CHECKING:
    import squall


class SquallPeer(Peer):
    name = "squall"

    def start(self, folder: str) -> None:
        os.environ["SQUALL_STATE"] = folder
        self._running = ExitStack()
        self._running.enter_context(functions.app.run())
        for function in (functions.one, functions.many, functions.spin_10_ms, functions.sleep_10_ms):
            list(function.map(range(functions.WARM)))

    def stop(self) -> None:
        self._running.close()
        command = [sys.executable, "-m", "squall", "daemon", "stop"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def remote(self, count: int) -> list[float]:
        return [seconds_of(lambda: functions.one.remote(1)) for _ in range(count)]

    def map_noop(self, count: int) -> list[float]:
        return [seconds_of(lambda: list(functions.many.map(range(count))))]

    def map_chunks(self, count: int) -> list[float]:
        return self.map_noop(count)

    def map_spin(self, count: int) -> list[float]:
        return [seconds_of(lambda: list(functions.spin_10_ms.map(range(count))))]

    def map_sleep(self, count: int) -> list[float]:
        return [seconds_of(lambda: list(functions.sleep_10_ms.map(range(count))))]

    def spawn_many(self, count: int) -> list[float]:
        return [seconds_of(lambda: asyncio.run(_spawns(count)))]

    def spawn_map(self, count: int) -> list[float]:
        calls: list[squall.FunctionCall[object]] = []
        seconds = seconds_of(lambda: calls.append(functions.many.spawn_map(range(count))))
        calls[0].get(index=count - 1)
        return [seconds]

    def spawn_each(self, count: int) -> list[float]:
        calls: list[squall.FunctionCall[object]] = []
        seconds = [seconds_of(lambda: calls.append(functions.many.spawn(1))) for _ in range(count)]
        calls[-1].get()
        return seconds

    def echo(self, count: int, size: int) -> list[float]:
        data = bytes(size)
        return [seconds_of(lambda: functions.one.remote(data)) for _ in range(count)]


async def _spawns(count: int) -> None:
    """Until each is on the server's disk."""
    room = asyncio.Semaphore(AT_ONCE)

    async def spawn(value: int) -> None:
        async with room:
            await functions.many.spawn.aio(value)

    await asyncio.gather(*[spawn(value) for value in range(count)])
