"""A function that needs no more than the base system."""

from __future__ import annotations

import squall

app = squall.App("nothing")


@app.function()
def nothing() -> None: ...


@app.local_entrypoint()
def main() -> None:
    nothing.remote()
