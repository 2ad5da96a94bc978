"""Notices peers that died without a word."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.server.transport.limits import Limits


class Heartbeat:
    """Pings a silent peer, and calls `dead` when that brings no sign of life.

    Signs of life are bytes that arrive (`heard`), and bytes of ours that do (`left`, those that have not,
    shrinks): a slow reader's pong waits behind all that it has to read. While reading is off nothing can be
    heard.
    """

    def __init__(
        self,
        limits: Limits,
        left: Callable[[], int],
        ping: Callable[[], None],
        dead: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._count = left
        self._ping = ping
        self._dead = dead
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._left = 0
        self.reading = True
        self._watch(self._heard + limits.ping_after)

    def heard(self) -> None:
        self._heard = self._loop.time()

    def stop(self) -> None:
        self._timer.cancel()

    def _watch(self, due: float) -> None:
        self._due = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        now, left, limits = self._loop.time(), self._count(), self._limits
        if left < self._left or not self.reading:
            self._heard = now
        self._left = left
        if now - self._due > limits.ping_patience:
            # We are late: this machine slept, or we were stopped. What the peer said may wait to be read.
            self._heard = max(self._heard, now - limits.ping_after)
        silent = now - self._heard
        # Timers may fire a little early: a millisecond is taken for there.
        if silent >= limits.ping_after + limits.ping_patience - 0.001:
            self._dead()
            return
        due = self._heard + limits.ping_after
        if silent >= limits.ping_after - 0.001:
            self._ping()
            due += limits.ping_patience
        self._watch(due)
