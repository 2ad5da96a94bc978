"""Functions for the tests of containers that several inputs share. It runs in containers too."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import squall

if TYPE_CHECKING:
    from collections.abc import Iterator

app = squall.App("e2e-sharing")

PLACES = 8
_barrier = threading.Barrier(PLACES)
_here: list[int] = []
_all_here = asyncio.Event()
_gate = threading.Event()


def _task() -> str:
    return os.environ["SQUALL_TASK_ID"]


@app.function(max_containers=1)
@squall.concurrent(max_inputs=PLACES)
def meet(x: int) -> tuple[int, str | None]:
    """Nobody goes on before all are there."""
    _barrier.wait(60)
    return x, squall.current_input_id()


@app.function(max_containers=1)
@squall.concurrent(max_inputs=PLACES)
async def meet_async(x: int) -> tuple[int, str | None]:
    _here.append(x)
    if len(_here) == PLACES:
        _all_here.set()
    await _all_here.wait()
    return x, squall.current_input_id()


@app.function(max_containers=1)
@squall.concurrent(max_inputs=6)
def gated(what: str) -> tuple[str, str]:
    """ "wait" goes on after "open"; "ask" says at once which container it is."""
    if what == "open":
        _gate.set()
    while what == "wait" and not _gate.is_set():
        time.sleep(0.002)
    return what, _task()


@app.function(max_containers=1, timeout=2, startup_timeout=300)
@squall.concurrent(max_inputs=3)
async def impatient(seconds: float) -> Any:
    await asyncio.sleep(seconds)
    return _task()


@app.function(max_containers=1)
@squall.concurrent(max_inputs=2)
def numbers(count: int) -> Iterator[int]:
    yield from range(count)


@app.function(max_containers=1)
@squall.batched(max_batch_size=4, wait_ms=60_000)
def together(x: list[int]) -> list[Any]:
    """How many came together; three is never right."""
    return [ValueError(f"no {y}") if y == 3 else (y, len(x)) for y in x]


@app.function(single_use_containers=True)
def once(_x: int) -> str:
    return _task()


@app.function(max_containers=1)
@squall.concurrent(max_inputs=20)
def nap(x: int) -> int:
    time.sleep(0.01)
    return x
