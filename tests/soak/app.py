"""What containers do while parts of the system are killed: only the standard library and Squall."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import squall

if TYPE_CHECKING:
    from collections.abc import Iterator

app = squall.App("soak")

#: An answer: what was asked, and a mark of this very run of it.
Answer = tuple[int, str]


@app.function(cpu=0.2, max_containers=4)
def work(x: int, seconds: float) -> Answer:
    time.sleep(seconds)
    return x, os.urandom(8).hex()


@app.function(cpu=0.5)
def parent(x: int, seconds: float) -> Answer:
    """A call in a call."""
    return work.remote(x, seconds)


@app.function(cpu=0.5)
def family(first: int, count: int) -> tuple[list[int], str]:
    """Several at once, and one spawned, whose call it says too."""
    spawned = work.spawn(first + count, 0.05)
    mapped = work.map(range(first, first + count), [0.05] * count)
    return [*(x for x, _ in mapped), spawned.get()[0]], spawned.object_id


@app.function(cpu=0.2, max_containers=2)
def numbers(first: int, count: int) -> Iterator[int]:
    for x in range(first, first + count):
        time.sleep(0.02)
        yield x


@app.function(cpu=0.1)
def echo(payload: bytes) -> bytes:
    return payload


@app.function(cpu=0.1)
def length(payload: bytes) -> int:
    return len(payload)
