"""What user code prints: on its way before the result is."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from contextlib import suppress


def flush() -> None:
    """User code may have closed or replaced the streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


class Prints:
    """Whether anything may have been printed, by Python, by C, or by a program that was waited for.

    The kernel counts the writes of a process and its ended children, to files too; a pipe has no time of its
    last write. Sockets count apart.
    """

    def __init__(self) -> None:
        self._fd = -1
        with suppress(OSError):
            self._fd = os.open("/proc/self/io", os.O_RDONLY | os.O_CLOEXEC)
        self._count = self._read()

    def any(self) -> bool:
        """Since this was asked last. Where the kernel does not count, there may always be some."""
        before, self._count = self._count, self._read()
        # Of children that nobody waits for, the kernel counts nothing.
        unwaited = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        return unwaited or self._count is None or self._count != before

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> bytes | None:
        try:
            return os.pread(self._fd, 512, 0).partition(b"syscw:")[2].partition(b"\n")[0] or None
        except OSError:
            return None


def prepare() -> None:
    """Whole lines at once, and no print ever fails over an encoding."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    with suppress(Exception):
        faulthandler.enable()
