"""Cancellation from outside: a signal interrupts user code in the main thread, wherever it is.

The alarm socket (see `protocol`) brings the numbers of cancelled inputs; the kernel turns their arrival into
SIGURG for the main thread (F_SETSIG), whose default elsewhere is to be ignored. The handler raises only while
user code runs (`interruptible`), never inside the runner's own code, and once an input. No thread is needed:
a second one would make every fork of user code a gamble. A signal that comes just before user code begins to
wait in a system call does not end that wait, so the agent repeats its alarm until the input is answered.
"""

from __future__ import annotations

import os
import signal
import struct
import threading
from contextlib import contextmanager
from fcntl import F_GETFL, F_SETFL, fcntl
from typing import TYPE_CHECKING

from squall.runner.protocol import ALARM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: asm-generic/fcntl.h; F_OWNER_TID aims at one thread.
_F_SETSIG, _F_SETOWN_EX, _F_OWNER_TID = 10, 15, 0
_ROOM = 1024 * ALARM.size


class Cancellation(BaseException):
    """What interrupts user code where the agent names no better class."""


class Interrupts:
    """Which inputs are cancelled, and whether the running one may be interrupted at this very moment."""

    def __init__(self) -> None:
        self.exception: type[BaseException] = Cancellation
        #: How to cancel the running input instead of raising (an event loop's task); None: raise.
        self.instead: Callable[[], object] | None = None
        #: Whether the running input was interrupted.
        self.hit = False
        self._cancelled: set[int] = set()
        self._alarm = -1
        self._current = 0
        self._open = False

    def listen(self, alarm: int) -> None:
        """Take over this descriptor as the alarm socket, in place of an earlier one."""
        if self._alarm >= 0:
            os.close(self._alarm)
            self._cancelled.clear()  # another agent counts anew, and says once more what is cancelled
        self._alarm = alarm
        signal.signal(signal.SIGURG, self._on_signal)
        fcntl(alarm, _F_SETOWN_EX, struct.pack("ii", _F_OWNER_TID, threading.get_native_id()))
        fcntl(alarm, _F_SETSIG, signal.SIGURG)
        fcntl(alarm, F_SETFL, fcntl(alarm, F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
        self._read()

    def begin(self, number: int) -> None:
        self._current = number
        self.hit = False

    def end(self) -> None:
        """The input is over. Inputs run in the order of their numbers, so older cancellations are moot."""
        self._open = False
        self.instead = None
        if self._cancelled:
            self._cancelled.difference_update([n for n in tuple(self._cancelled) if n <= self._current])

    def cancelled(self, number: int) -> bool:
        return number in self._cancelled

    def interruptible(self) -> Interrupts:
        """Around user code (`with`). Raises `exception` out of it when the running input is cancelled."""
        return self

    def __enter__(self) -> None:
        self._open = True
        self._interrupt()  # which closes before it raises

    def __exit__(self, *_: object) -> None:
        self._open = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within user code's time, around what must be done whole: an import that is torn leaves a broken
        module behind. A cancellation meanwhile is raised at the end.
        """
        was_open, self._open = self._open, False
        try:
            yield
        finally:
            self._open = was_open
        self._interrupt()

    def _on_signal(self, _signum: int, _frame: object) -> None:
        self._read()
        self._interrupt()

    def _interrupt(self) -> None:
        if self.hit or not self._open or self._current not in self._cancelled:
            return
        self._cancelled.discard(self._current)
        self.hit = True
        if self.instead is not None:
            self.instead()
            return
        self._open = False
        raise self.exception("the input was cancelled")

    def _read(self) -> None:
        data = bytes(_ROOM)
        while len(data) == _ROOM:
            try:
                data = os.read(self._alarm, _ROOM)
            except OSError:
                return
            self._cancelled.update(
                n for (n,) in ALARM.iter_unpack(data[: len(data) // ALARM.size * ALARM.size])
            )
