"""Functions whose inputs travel in chunks, and what may befall one of them."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any

import squall

app = squall.App("chunked")
nested = app.function()(abs)


class OddError(Exception):
    pass


@app.function(max_containers=2, timeout=3)
def act(number: int, what: str = "", where: int = -1) -> Any:
    """Quick, but for the input `where`."""
    if number != where:
        return number * 2
    if what == "raise":
        raise OddError(number)
    if what == "sleep":
        time.sleep(60)
    if what == "slow":
        time.sleep(1)
    if what == "exit":
        os._exit(3)
    if what == "crash":
        ctypes.string_at(0)
    if what == "print":
        print(f"this is {number}")
    if what == "large":
        return b"x" * 3_000_000
    if what == "fork" and os.fork() == 0:
        return -1
    if what == "unpicklable":
        return (n for n in range(1))
    return number * 2


@app.function(max_containers=1)
def who(_number: int) -> tuple[str, str]:
    """The input's id, and its process."""
    return str(squall.current_input_id()), str(os.getpid())


@app.function(max_containers=1)
def append(number: int, shared: list[int]) -> list[int]:
    """To an argument that was one object for all inputs on the caller's side."""
    shared.append(number)
    return shared


@app.function(max_containers=2)
def note(number: int, folder: str, wait: float) -> int:
    with Path(folder, str(number)).open("a") as file:
        file.write("x")
    time.sleep(wait)
    return number


@app.function(max_containers=1)
def calls_another(number: int) -> int:
    return int(nested.remote(-number))
