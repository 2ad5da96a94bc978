"""What nodes are given to do: only the standard library and Squall."""

from __future__ import annotations

import os
import time

import squall

app = squall.App("network")


@app.function(cpu=0.5, max_containers=2)
def work(path: str, seconds: float) -> str:
    """Notes every 20 ms which run of it is at work; the answer is its mark."""
    mark = os.urandom(8).hex()
    end = time.monotonic() + seconds
    with open(path, "a", encoding="utf-8") as file:
        while time.monotonic() < end:
            file.write(f"{mark} {time.monotonic()}\n")
            file.flush()
            time.sleep(0.02)
    return mark


@app.function(cpu=0.5, max_containers=2)
def double(x: int) -> int:
    time.sleep(0.05)
    return 2 * x
