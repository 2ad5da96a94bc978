"""Functions that call others and wait for them, each with a whole core."""

from __future__ import annotations

import asyncio

import squall

app = squall.App("e2e-nested")


@app.function(cpu=1)
def child(x: int) -> int:
    return x + 1


@app.function(cpu=1)
def parent(x: int) -> int:
    return child.remote(x)


@app.function(cpu=1)
def spawning(x: int) -> int:
    return child.spawn(x).get()


@app.function(cpu=1)
def mapping(n: int) -> int:
    return sum(child.map(range(n)))


@app.function(cpu=1)
async def waiting(n: int) -> int:
    return sum(await asyncio.gather(*(child.remote.aio(x) for x in range(n))))


@app.function(cpu=1)
def fib(n: int) -> int:
    return n if n < 2 else sum(fib.map([n - 1, n - 2]))


@app.function(cpu=1, max_containers=2)
def deep(n: int) -> int:
    return 0 if n == 0 else 1 + deep.remote(n - 1)
