"""Ctrl-C: the first one ends what runs, in order; the second one leaves at once. SIGTERM ends it likewise."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Exit status after Ctrl-C, as shells have it: 128 + SIGINT.
INTERRUPTED = 130


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP as the terminal went away; `status` is the exit status for it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


@contextmanager
def told_to_end() -> Iterator[None]:
    """In the block, SIGTERM and SIGHUP end what runs in order, as Ctrl-C does. A program's handlers stay."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [
        number for name in names if signal.getsignal(number := getattr(signal, name)) is signal.SIG_DFL
    ]
    if threading.current_thread() is not threading.main_thread():
        numbers = []

    def end(number: int, _frame: object) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_DFL)  # a second one ends the process
        raise Terminated(number)

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            if signal.getsignal(number) is end:
                signal.signal(number, signal.SIG_DFL)


@contextmanager
def twice() -> Iterator[None]:
    """A second Ctrl-C in the block, while the first one is being dealt with, ends the process.

    The server ends the app then, once it finds that nobody is there. A program's own handler is left alone.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed = False

    def press(_number: int, _frame: object) -> None:
        nonlocal pressed
        if pressed:
            _leave()
        pressed = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is press:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave() -> None:
    """By raw writes: whatever lock or buffer the program holds stays as it is."""
    if os.isatty(2):
        os.write(2, b"\r\x1b[J" if os.environ.get("TERM", "dumb") != "dumb" else b"\n")
    os._exit(INTERRUPTED)
