"""Async functions and generators: one event loop in the main thread, kept from input to input.

Loaded only for functions that need it: asyncio costs more than all the rest of the runner.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

    from squall.runner.calls import Executor, Stream, _Counter
    from squall.runner.cancellation import Interrupts


class EventLoop:
    """Runs coroutines; cancelling an input cancels its task.

    A signal that comes just before the loop begins to wait would not end that wait: it also goes into a pipe
    that the loop watches.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._signals, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.add_reader(self._signals, os.read, self._signals, 4096)

    def run(self, awaitable: Awaitable[Any], interrupts: Interrupts) -> Any:
        """The result. Raises the interrupts' exception when the task ended by their cancellation."""
        task = self._loop.create_task(_awaited(awaitable))
        interrupts.instead = lambda: self._loop.call_soon_threadsafe(task.cancel)
        before = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        try:
            return self._loop.run_until_complete(task)
        except asyncio.CancelledError:
            if not interrupts.hit:
                raise
            raise interrupts.exception("the input was cancelled") from None
        finally:
            signal.set_wakeup_fd(before)
            interrupts.instead = None

    async def generate(
        self, values: AsyncGenerator[Any, None], stream: Stream, executor: Executor, counted: _Counter
    ) -> None:
        """Send what an async generator gives, within the credit."""
        try:
            while True:
                while not stream.ready(counted.value):
                    await self._readable(stream)
                try:
                    value = await values.__anext__()
                except StopAsyncIteration:
                    return
                stream.send(counted.value, executor.dump(value))
                counted.value += 1
        finally:
            with suppress(AttributeError):
                await values.aclose()

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.remove_reader(self._signals)
        self._loop.close()
        os.close(self._signals)
        os.close(self._wakeup)

    async def _readable(self, stream: Stream) -> None:
        arrived = asyncio.Event()
        fd = stream.fileno()
        self._loop.add_reader(fd, arrived.set)
        try:
            await arrived.wait()
        finally:
            self._loop.remove_reader(fd)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
