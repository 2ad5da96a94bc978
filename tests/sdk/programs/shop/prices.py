"""Looks prices up; fails for what is not sold."""

from __future__ import annotations

import squall as modal

app = modal.App("prices")

PRICES = {"apple": 3, "pear": 4}


class NotSoldError(Exception):
    """No such thing in the shop."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@app.function()
async def price(name: str) -> int:
    if name not in PRICES:
        raise NotSoldError(name)
    return PRICES[name]
