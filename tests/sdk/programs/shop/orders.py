"""An order service of two apps, on asyncio: an included app, async iterators, errors as values, nesting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import squall as modal
from shop.prices import NotSoldError, price
from shop.prices import app as prices_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

app = modal.App("orders")
app.include(prices_app)


@app.function()
async def order(names: list[str]) -> int:
    """What an order costs: a call for each thing, from inside a container."""
    return sum(await asyncio.gather(*(price.remote.aio(name) for name in names)))


async def baskets() -> AsyncIterator[list[str]]:
    for basket in (["apple"], ["apple", "pear"], ["pear", "ham"], []):
        await asyncio.sleep(0)
        yield basket


@app.local_entrypoint()
async def main() -> None:
    results = [r async for r in order.map.aio(baskets(), return_exceptions=True)]
    costs = [
        r if isinstance(r, int) else f"no {r.name}" for r in results if isinstance(r, (int, NotSoldError))
    ]
    print("costs", costs)
    async for cost in order.map.aio([["pear"]] * 2, order_outputs=False):
        print("pear", cost)
    try:
        await price.remote.aio("ham")
    except NotSoldError as error:
        print("not sold:", error.name)
