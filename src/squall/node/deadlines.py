"""The clock of the inputs that run: tell the server that they have begun, end them when their time is over,
and their container when one does not react.

One timer a container, set lazily: quick inputs come and go under one that is set already.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from squall.node.direct import SLOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.node.inputs import Attempt, Inputs

#: An input that runs for so many seconds is worth telling the server that it has begun.
TELL_AFTER = 0.02
#: A runner that has not answered is interrupted again after so many seconds: a signal that comes just before
#: user code begins to wait in a system call is noticed only after that wait.
RING_AGAIN = 0.1


class Deadlines:
    """`told` hears of long ones, `interrupt` of those to be interrupted (until they end), `stuck` when one of
    them goes on for `grace` seconds after that.
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
        #: When the timer goes off.
        self._set_for = 0.0

    def begun(self) -> None:
        """There may be more running inputs."""
        if self._inputs.begun:
            self._wake_at(time.monotonic() + TELL_AFTER)

    def cancel(self, attempt: Attempt, verdict: str) -> None:
        """End a running input so, unless it is being ended already."""
        if attempt.verdict:
            return
        attempt.verdict = verdict
        attempt.kill_at = time.monotonic() + self._grace
        self._interrupt(attempt)
        self._wake_at(_due(attempt, time.monotonic()))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake_at(self, moment: float) -> None:
        """At the latest."""
        if self._timer is not None:
            if self._set_for <= moment:
                return
            self._timer.cancel()
        self._set_for = moment
        self._timer = self._loop.call_later(max(moment - time.monotonic(), 0.001), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        now = time.monotonic()
        for attempt in list(self._inputs.begun):
            since = attempt.since(now)
            if not attempt.told and now >= since + _patience(attempt):
                attempt.told = True
                self._told(attempt)
            if attempt.verdict:
                self._interrupt(attempt)
            elif now >= since + attempt.input.timeout:
                self.cancel(attempt, "timeout")
        due = min((_due(attempt, now) for attempt in self._inputs.begun), default=None)
        if due is None:
            return
        if any(a.kill_at is not None and now >= a.kill_at for a in self._inputs.begun):
            self._stuck()
        else:
            self._wake_at(due)


def _due(attempt: Attempt, now: float) -> float:
    """When something is to be done about it."""
    if attempt.kill_at is not None:
        return min(attempt.kill_at, now + RING_AGAIN)
    since = attempt.since(now)
    deadline = since + attempt.input.timeout
    if attempt.page is not None:  # other calls follow this one
        deadline = min(deadline, now + max(SLOW, attempt.input.timeout / 10))
    return deadline if attempt.told else min(deadline, since + _patience(attempt))


def _patience(attempt: Attempt) -> float:
    """After how many seconds its beginning is told."""
    return TELL_AFTER if attempt.page is None else SLOW
