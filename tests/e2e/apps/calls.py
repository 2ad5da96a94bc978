"""Functions for the tests of calls. It runs in containers too: only the standard library and Squall."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

import squall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

app = squall.App("e2e-calls")

#: What a generator that was broken off has left in its container.
closed: list[int] = []


class UnluckyError(Exception):
    """An exception of the user's own, with more in it than a text."""

    def __init__(self, number: int) -> None:
        super().__init__(f"unlucky {number}")
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return (UnluckyError, (self.number,))


class StuckError(Exception):
    """It cannot be pickled: it holds a lock."""

    def __init__(self) -> None:
        super().__init__("it cannot leave")
        self.hold = threading.Lock()


@app.function()
def echo(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


@app.function(max_containers=1)
def same(data: bytes, pause: float = 0.0) -> bytes:
    time.sleep(pause)
    return data


@app.function()
def where() -> tuple[int, str, bool]:
    """The process, the container, and whether it thinks that it is at home."""
    return os.getpid(), os.environ.get("SQUALL_TASK_ID", ""), squall.is_local()


@app.function(max_containers=3)
def double(x: int, plus: int = 0, pause: float = 0.0) -> int:
    time.sleep(pause)
    return 2 * x + plus


@app.function(max_containers=2)
def uneven(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.function()
def risky(x: int) -> int:
    if x % 3 == 0:
        raise UnluckyError(x)
    return x


@app.function()
def chained() -> None:
    try:
        int("seven")
    except ValueError as error:
        raise UnluckyError(7) from error


@app.function()
def stuck() -> NoReturn:
    raise StuckError


@app.function()
def unpicklable() -> Any:
    return threading.Lock()


@app.function(max_containers=1)
def count(n: int) -> Iterator[int]:
    try:
        yield from range(n)
    finally:
        closed.append(n)


@app.function(max_containers=1)
def broken_off(n: int) -> Iterator[Any]:
    """First, what earlier ones left here."""
    yield list(closed)
    try:
        yield from range(n)
    finally:
        closed.append(n)


@app.function()
def slowly(n: int, pause: float) -> Iterator[int]:
    for number in range(n):
        time.sleep(pause)
        yield number


@app.function()
async def acount(n: int) -> AsyncIterator[int]:
    for number in range(n):
        await asyncio.sleep(0)
        yield number


@app.function()
async def asquare(x: int) -> int:
    await asyncio.sleep(0.001)
    return x * x


@app.function()
def wait(seconds: float) -> str:
    time.sleep(seconds)
    return "waited"


@app.function(timeout=1, startup_timeout=60, max_containers=1)
def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "in time"


@app.function()
def leave(how: str) -> str:
    if how == "exit":
        sys.exit(3)
    if how == "_exit":
        os._exit(3)
    if how == "segfault":
        import ctypes

        ctypes.string_at(0)
    return "still here"


@app.function(memory=(64, 128), cpu=(0.1, 1.0))
def hog(mebibytes: int) -> int:
    return len(bytearray(os.urandom(1 << 20)) * mebibytes)


@app.function(env={"COLOUR": "green", "EMPTY": ""})
def environment(name: str) -> str | None:
    return os.environ.get(name)


@app.function(cpu=(0.1, 0.3))
def spin(seconds: float) -> float:
    """CPU seconds a second while it wants all that it can get."""
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() < began + seconds:
        pass
    return (time.process_time() - used) / (time.monotonic() - began)


@app.function(max_containers=2)
def task(pause: float) -> str:
    time.sleep(pause)
    return os.environ["SQUALL_TASK_ID"]


@app.function(scaledown_window=2)
def short_lived() -> str:
    return os.environ["SQUALL_TASK_ID"]


# ------------------------------------------------------------------------------- functions that call others


@app.function()
def quadruple(x: int) -> int:
    return double.remote(double.remote(x))


@app.function()
def total(n: int) -> int:
    return sum(double.map(range(n)))


@app.function()
def later(x: int) -> squall.FunctionCall[int]:
    return double.spawn(x)


@app.function()
def soon(x: int) -> int:
    return double.spawn(x, plus=1).get()


@app.function()
def nested_failure(x: int) -> str:
    """What a failure of an inner call looks like to the outer one."""
    try:
        risky.remote(x)
    except UnluckyError as error:
        return f"{type(error).__name__} {error.number}"
    return "no failure"


@app.function()
def counted(n: int) -> list[int]:
    return list(count.remote_gen(n))


@app.function()
async def atotal(n: int) -> int:
    return sum(await asyncio.gather(*(double.remote.aio(x) for x in range(n))))
