"""`squall run outage.py --kind KIND`: calls of each kind that take a while; something happens meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import squall

if TYPE_CHECKING:
    from collections.abc import Iterator

app = squall.App("outage")

#: How long a call takes (seconds), and how many there are at a time.
HELD_S, COUNT = 4.0, 4


#: How often each input has begun, in the one container.
RUNS: Counter[int] = Counter()
ASK = -1


@app.function(cpu=0.1, max_containers=1)
@squall.concurrent(max_inputs=COUNT)
def hold(x: int) -> int:
    """The input again; for ASK, how often the one that ran most has begun."""
    if x == ASK:
        return max(RUNS.values())
    print(f"ran {x}")
    RUNS[x] += 1
    time.sleep(HELD_S)
    return x


@app.function(cpu=0.1)
def values(count: int) -> Iterator[int]:
    for x in range(count):
        time.sleep(HELD_S / count)
        print(f"ran {x}")
        yield x


def remote() -> list[int]:
    return [hold.remote(0)]


def threads() -> list[int]:
    got: list[int] = []
    pool = [threading.Thread(target=lambda x=x: got.append(hold.remote(x))) for x in range(COUNT)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    return sorted(got)


async def aio() -> list[int]:
    return await asyncio.gather(*(hold.remote.aio(x) for x in range(COUNT)))


async def all_aio() -> list[int]:
    """Without any blocking call."""
    async with app.run():
        return await aio()


def mapped() -> list[int]:
    return list(hold.map(range(COUNT)))


def generator() -> list[int]:
    got: list[int] = []
    try:
        for x in values.remote_gen(COUNT):
            got.append(x)  # noqa: PERF402 - those before an error count
    except squall.exception.InternalFailure:
        assert got == list(range(len(got)))
        return list(range(COUNT))
    return got


def spawn() -> list[int]:
    calls = [hold.spawn(x) for x in range(COUNT)]
    return [call.get() for call in calls]


@app.local_entrypoint()
def main(kind: str) -> None:
    kinds = {"remote": remote, "threads": threads, "aio": lambda: asyncio.run(aio()),
             "map": mapped, "generator": generator, "spawn": spawn}  # fmt: skip
    answers = kinds[kind]()
    if kind != "generator":
        print(f"runs: {hold.remote(ASK)}")
    print("right" if answers == list(range(len(answers))) else f"wrong: {answers}")


if __name__ == "__main__":
    with squall.enable_output():
        print("right" if asyncio.run(all_aio()) == list(range(COUNT)) else "wrong")
