"""Functions that end badly, each in its own way. It runs in containers too."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any

import squall

app = squall.App("e2e-troubles")
missing = squall.Secret.from_name("no-such-secret")


@app.function(memory=(64, 128), timeout=20)
def end(how: str) -> Any:
    if how == "exit":
        sys.exit(3)
    if how == "_exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "abort":
        os.abort()
    if how == "memory":
        return len(b"x" * (1 << 30))
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "lock":
        import threading

        return threading.Lock()
    return how


@app.function(timeout=1, startup_timeout=600)
def slow() -> None:
    time.sleep(60)


@app.function()
def waits() -> None:
    time.sleep(60)


@app.function()
def count(n: int) -> Any:
    yield from range(n)
