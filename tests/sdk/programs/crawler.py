"""Crawls an endless web until enough was seen: a script with a block of `app.run()`, and one on asyncio."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import squall as modal

if TYPE_CHECKING:
    from collections.abc import Iterator

app = modal.App()


@app.function(max_containers=2)
def fetch(page: int) -> list[int]:
    """The links of a page."""
    return [2 * page + 1, 2 * page + 2]


@app.function()
def depth(page: int) -> int:
    """How far from the first page, by a call for each step."""
    return 0 if page == 0 else 1 + depth.remote((page - 1) // 2)


def endless() -> Iterator[int]:
    try:
        yield from itertools.count()
    finally:
        print("the frontier is closed")


async def later() -> int:
    async with app.run():
        links = [link async for found in fetch.map.aio(range(3)) for link in found]
        return max(links)


def main() -> None:
    with modal.enable_output(quiet=True), app.run():
        seen = set()
        for links in fetch.map(endless()):
            seen.update(links)
            if len(seen) >= 4000:
                break
        print("seen", len(seen), "deepest", depth.remote(30))
        values = depth.map(iter([0, 1, 3]))
        print("first", next(values))
        del values
        print("local", modal.is_local(), fetch.local(0), fetch.local(1))
    print("later", asyncio.run(later()))


if __name__ == "__main__":
    main()
