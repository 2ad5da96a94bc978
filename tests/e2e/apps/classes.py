"""Classes for tests/e2e/test_classes.py."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import squall

if TYPE_CHECKING:
    from collections.abc import Iterator

app = squall.App("e2e-classes")


class Base:
    """What both have."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    @squall.enter()
    def base_in(self) -> None:
        self.steps.append("base in")

    @squall.method()
    def told(self) -> list[str]:
        return self.steps


@app.cls(scaledown_window=2)
class Model(Base):
    """Counts its calls."""

    size: str = squall.parameter(default="small")
    layers: int = squall.parameter(default=1)
    key: bytes = squall.parameter(default=b"")
    loud: bool = squall.parameter(default=False)

    @squall.enter()
    async def load(self) -> None:
        await asyncio.sleep(0)
        self.steps.append(f"in {self.size}")
        self.calls = 0

    @squall.exit()
    def leave(self) -> None:
        print(f"left {self.size} after {self.calls} calls")

    @squall.method()
    def predict(self, x: int) -> tuple[str, int, int, str]:
        self.calls += 1
        return (
            f"{self.size}/{self.layers}/{self.key!r}/{self.loud}",
            x,
            self.calls,
            os.environ["SQUALL_TASK_ID"],
        )

    @squall.method()
    async def later(self, x: int) -> int:
        await asyncio.sleep(0.01)
        return self.plus(x) + self.plus.local(x)

    @squall.method()
    def plus(self, x: int) -> int:
        return x + self.layers

    @squall.method()
    def count(self, n: int) -> Iterator[int]:
        yield from range(n)

    @squall.method()
    def fail(self) -> None:
        raise ValueError(f"no {self.size}")

    @squall.method()
    def env(self, name: str) -> str | None:
        return os.environ.get(name)


@app.cls()
class Recursive:
    """Calls itself, in other containers of its own."""

    base: int = squall.parameter()

    @squall.method()
    def down(self, n: int) -> int:
        return self.base if n == 0 else 1 + self.down.remote(n - 1)


@app.cls()
class Broken:
    """Cannot be entered."""

    @squall.enter()
    def load(self) -> None:
        raise ValueError("no weights here")

    @squall.method()
    def f(self) -> None:
        """Never runs."""


@app.function()
def through(model: Any, x: int) -> Any:
    return model.predict.remote(x)[0]


@app.function()
def cores() -> int:
    return int(os.environ.get("CORES", "0"))


@app.cls()
@squall.concurrent(max_inputs=4)
class Shared:
    """All its callers meet in one container."""

    @squall.enter()
    def load(self) -> None:
        self.barrier = threading.Barrier(2)

    @squall.method()
    def meet(self) -> str:
        self.barrier.wait(60)
        return os.environ["SQUALL_TASK_ID"]


@app.cls()
class Batched:
    """Answers several inputs together."""

    factor: int = squall.parameter(default=2)

    @squall.method()
    @squall.batched(max_batch_size=4, wait_ms=2000)
    def times(self, xs: list[int]) -> list[tuple[int, int]]:
        return [(self.factor * x, len(xs)) for x in xs]
