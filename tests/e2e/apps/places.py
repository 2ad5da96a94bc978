"""Functions that say where they run. It runs in containers too: only the standard library and Squall."""

from __future__ import annotations

import os
import time

import squall

app = squall.App("e2e-places")


@app.function(cpu=1)
def where(number: int, seconds: float) -> tuple[int, str]:
    """The input, and the container that had it."""
    time.sleep(seconds)
    return number, os.environ["SQUALL_TASK_ID"]
