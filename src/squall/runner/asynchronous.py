"""Async functions and generators: one event loop in the main thread, kept from input to input.

Loaded only for functions that need it: asyncio costs more than all the rest of the runner.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

    from squall.runner.calls import Counter, Executor, Stream
    from squall.runner.cancellation import Interrupts
    from squall.runner.workers import ThreadInterrupts


class EventLoop:
    """Runs coroutines; cancelling an input cancels its task.

    A signal that comes just before the loop begins to wait would not end that wait: it also goes into a pipe
    that the loop watches.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self._signals, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.loop.add_reader(self._signals, os.read, self._signals, 4096)

    def run(self, awaitable: Awaitable[Any], interrupts: Interrupts | ThreadInterrupts) -> Any:
        """The result. Raises the interrupts' exception when the task ended by their cancellation."""
        task = self.loop.create_task(_awaited(awaitable))
        interrupts.instead = lambda: self.loop.call_soon_threadsafe(task.cancel)
        before = self._watch_signals(self._wakeup)
        try:
            return self.loop.run_until_complete(task)
        except asyncio.CancelledError:
            if not interrupts.hit:
                raise
            raise interrupts.exception("the input was cancelled") from None
        finally:
            self._watch_signals(before)
            interrupts.instead = None

    def _watch_signals(self, fd: int) -> int:
        """Where arriving signals are told; the descriptor before. Signals are the main thread's affair."""
        if threading.current_thread() is not threading.main_thread():
            return -1
        return signal.set_wakeup_fd(fd, warn_on_full_buffer=False)

    async def generate(
        self, values: AsyncGenerator[Any, None], stream: Stream, executor: Executor, counted: Counter
    ) -> None:
        """Send what an async generator gives, within the credit."""
        try:
            while True:
                while not stream.ready(counted.value):
                    await stream.arrival()
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
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.remove_reader(self._signals)
        self.loop.close()
        os.close(self._signals)
        os.close(self._wakeup)


async def readable(fd: int) -> None:
    """Until there is something to read."""
    arrived, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(fd, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(fd)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
