"""Time, injected: the control plane asks it for now and for wake-ups, tests turn it by hand."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(ABC):
    @abstractmethod
    def now(self) -> float:
        """Seconds on a monotonic clock that all processes of this host share."""

    @abstractmethod
    def wall(self) -> float:
        """Seconds since 1970, for people."""

    @abstractmethod
    def call_later(self, delay: float, action: Callable[[], None]) -> Timer:
        """Run the action on the event loop after so many seconds."""


class LoopClock(Clock):
    """The host's clocks and the running event loop's timers."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def call_later(self, delay: float, action: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, action)
