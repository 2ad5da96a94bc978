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

_TITLES = ("hop", "process", "offset ms", "delta ms")


def begin() -> Trace | None:
    """The trace of a new input; None when nobody asked, and then nobody on its way notes anything."""
    return None if sink is None else [("sdk.call", time.monotonic())]


def serialized(trace: Trace | None) -> None:
    """Its arguments are bytes, and uploaded where they are large."""
    if trace is not None:
        trace.append(("sdk.serialized", time.monotonic()))


def end(call: str, item: OutputItem) -> None:
    """Its result is an object again."""
    if sink is not None and item.trace:
        from squall.wire import hops

        told = [*hops.clean(item.trace, hops.ALL), ("sdk.result", time.monotonic())]
        sink(call, item.index, sorted(told, key=lambda hop: hop[1]))


def told(call: str, index: int, trace: Trace) -> str:
    """A line a hop: its process, milliseconds since the beginning, and since the hop before.

    Times of other machines are on clocks of their own and mean nothing beside ours.
    """
    from squall.wire import hops

    first = before = trace[0][1]
    rows = [_TITLES]
    for name, at in trace:
        rows.append((name, hops.HOPS[name], f"{(at - first) * 1000:.3f}", f"{(at - before) * 1000:.3f}"))
        before = at
    cold = any(name == hops.START for name, _ in trace)
    title = f"trace {call}:{index} ({'cold: a container was started' if cold else 'warm'})"
    return "\n".join([title, *(f"  {a:<18} {b:<8} {c:>11} {d:>11}" for a, b, c, d in rows)])
