"""What user code prints: on its way before the result is."""

from __future__ import annotations

import faulthandler
import sys
from contextlib import suppress


def flush() -> None:
    """User code may have closed or replaced the streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def prepare() -> None:
    """Whole lines at once, and no print ever fails over an encoding."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    with suppress(Exception):
        faulthandler.enable()
