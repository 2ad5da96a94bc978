"""The clock of the input that runs: tell the server that it has begun, end it when its time is over, and its
container when it does not react.

One timer a container, set lazily: quick inputs come and go under one that is set already.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.node.inputs import Attempt, Inputs

#: An input that runs for so many seconds is worth telling the server that it has begun.
TELL_AFTER = 0.02
#: A runner that has not answered is interrupted again after so many seconds: a signal that comes just before
#: user code begins to wait in a system call is noticed only after that wait.
RING_AGAIN = 0.1


class Deadlines:
    """`told` hears of long ones, `interrupt` of those to be interrupted (until they end), `stuck` of one
    that goes on for `grace` seconds after that.
    """

    def __init__(
        self,
        inputs: Inputs,
        grace: float,
        told: Callable[[Attempt], None],
        interrupt: Callable[[Attempt], None],
        stuck: Callable[[], None],
    ) -> None:
        self._inputs = inputs
        self._grace = grace
        self._told = told
        self._interrupt = interrupt
        self._stuck = stuck
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._kill_at: float | None = None

    def begun(self) -> None:
        """There may be another running input."""
        if self._timer is None:
            self._set()

    def ended(self, attempt: Attempt) -> None:
        """The running input is over; the timer for a long one is too late for the next."""
        self._kill_at = None
        if attempt.told:
            self._set()

    def cancel(self, attempt: Attempt, verdict: str) -> None:
        """End the running input so, unless it is being ended already."""
        if attempt.verdict:
            return
        attempt.verdict = verdict
        self._kill_at = time.monotonic() + self._grace
        self._interrupt(attempt)
        self._set()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        self.close()
        running = self._inputs.running
        if running is not None:
            delay = max(self._due(running) - time.monotonic(), 0.001)
            self._timer = self._loop.call_later(delay, self._on_time)

    def _due(self, running: Attempt) -> float:
        if running.verdict and self._kill_at is not None:
            return min(self._kill_at, time.monotonic() + RING_AGAIN)
        deadline = running.began + running.input.timeout
        return deadline if running.told else min(deadline, running.began + TELL_AFTER)

    def _on_time(self) -> None:
        self._timer = None
        running = self._inputs.running
        if running is None:
            return
        now = time.monotonic()
        if not running.told and now >= running.began + TELL_AFTER:
            running.told = True
            self._told(running)
        if running.verdict and self._kill_at is not None:
            if now >= self._kill_at:
                self._stuck()
                return
            self._interrupt(running)
        if not running.verdict and now >= running.began + running.input.timeout:
            self.cancel(running, "timeout")
        else:
            self._set()
