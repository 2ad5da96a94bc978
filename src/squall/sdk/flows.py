"""Flows: what the SDK does with a server, written once for blocking and asyncio callers.

A flow is a coroutine, or an asynchronous generator, that awaits nothing but the methods of a `Port`. Those of
a blocking port never suspend, so that one `next` runs the flow to its end, without an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Iterator

T = TypeVar("T")


def finish(flow: Awaitable[T]) -> T:
    """Run a flow that never suspends to its end."""
    try:
        next(flow.__await__())
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("a flow suspended in blocking mode")


def iterate(values: AsyncGenerator[T, None]) -> Iterator[T]:
    """The values of an asynchronous generator that never suspends; it is closed whatever happens."""
    try:
        while True:
            try:
                values.__anext__().send(None)
            except StopIteration as done:
                value: T = done.value
            except StopAsyncIteration:
                return
            else:
                raise RuntimeError("a flow suspended in blocking mode")
            yield value
    finally:
        finish(values.aclose())
