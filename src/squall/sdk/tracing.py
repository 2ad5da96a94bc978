"""Spans of inputs, for `squall run --trace`: where an input was when, hop by hop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.wire.values import OutputItem, Trace

    Sink = Callable[[str, int, Trace], None]

#: Gets (call, index of the input, hops) of each input that ends; None: nobody asked for traces.
sink: Sink | None = None


def begin() -> Trace | None:
    return [("sdk.call", time.monotonic())] if sink is not None else None


def end(call: str, item: OutputItem) -> None:
    if sink is not None and item.trace:
        sink(call, item.index, [*item.trace, ("sdk.result", time.monotonic())])


def told(call: str, index: int, hops: Trace) -> str:
    """A line a hop: milliseconds since the one before, and since the beginning."""
    lines = [f"trace {call}:{index}"]
    first = before = hops[0][1]
    for name, at in hops:
        lines.append(f"  +{(at - before) * 1000:9.3f} ms {(at - first) * 1000:10.3f} ms  {name}")
        before = at
    return "\n".join(lines)
