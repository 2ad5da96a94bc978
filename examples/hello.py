"""The quickstart: `squall run examples/hello.py`."""

from __future__ import annotations

import squall

app = squall.App("hello")


@app.function()
def square(x: int) -> int:
    print(f"squaring {x}")
    return x * x


@app.local_entrypoint()
def main(count: int = 5) -> None:
    print("one call:", square.remote(7))
    print("a map:", list(square.map(range(count))))
