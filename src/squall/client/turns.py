"""Locks for threads that a Ctrl-C may hit between any two instructions."""

from __future__ import annotations

import threading
from typing import Any


class Turn:
    """Taken by one thread at a time; given back surely, whatever interrupted the taking.

    A plain lock cannot do this: KeyboardInterrupt may come after `acquire` took it and before the caller
    knows. A re-entrant one records its owner in the same step, so that `leave` can ask.
    """

    def __init__(self) -> None:
        # The C type; typeshed does not know the method that threading.Condition uses, too.
        self._lock: Any = threading.RLock()

    def take(self) -> bool:
        """Without waiting."""
        return bool(self._lock.acquire(blocking=False))

    def wait_and_take(self) -> None:
        self._lock.acquire()

    def mine(self) -> bool:
        return bool(self._lock._is_owned())

    def leave(self) -> None:
        """Give it back if this thread has it."""
        while self._lock._is_owned():
            self._lock.release()


class Waiter:
    """One waiting thread. Waking it twice is once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # it is awake already
            return

    def wait(self, timeout: float) -> None:
        self._lock.acquire(timeout=timeout)
