"""The inputs of a map on their way out, beside the results on their way in."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from squall.exception import InvalidError
from squall.sdk import serialization, tracing
from squall.wire.values import InputItem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

    from squall.client.api import Call
    from squall.runner.protocol.spool import Pickled
    from squall.sdk.ports import Gate, Port

#: Inputs of a map that have no result yet, or whose results nobody has taken.
OUTSTANDING = 1_000
#: Inputs that are sent together, and how long one may wait for others, in seconds.
BATCH = 64
LINGER_S = 0.02
#: A larger input counts as several: what is outstanding stays below OUTSTANDING times this, in bytes.
UNIT_BYTES = 64 << 10
MAX_UNITS = 32


class Feeder:
    """Takes inputs from the user's iterator while there is room, and sends them in batches.

    Runs beside the flow that takes the results: in a thread of its own, so that an iterator that waits does
    not hold results up. That flow calls `flush` while it has nothing to do.
    """

    def __init__(
        self,
        port: Port[Any],
        call: Call,
        rows: AsyncGenerator[tuple[Any, ...], None],
        encode: Callable[[tuple[Any, ...]], Pickled],
    ) -> None:
        self.count = 0
        self.done = False
        self.sent = False
        self.error: BaseException | None = None
        self._port = port
        self._call = call
        self._rows = rows
        self._encode = encode
        self._gate: Gate = port.gate(OUTSTANDING)
        self._units: dict[int, int] = {}
        self._pending: list[InputItem] = []
        self._sending = threading.Lock()
        self._flushed = 0.0
        self._stop: Callable[[], None] = port.beside(self._run())

    def taken(self, index: int) -> None:
        """The consumer has this result: there is room for another input."""
        for _ in range(self._units.pop(index)):
            self._gate.release()

    def stop(self) -> None:
        self._gate.open()
        self._stop()

    def flush(self, *, last: bool = False) -> None:
        """Send what waits. Inputs go out in the order of their indexes, whoever sends them."""
        with self._sending:
            items, self._pending = self._pending, []
            self._flushed = time.monotonic()
            if items or (last and self.sent):
                self.sent = True
                self._call.send(items, last=last)

    async def _run(self) -> None:
        try:
            async for row in self._rows:
                if not await self._add(row):
                    return
            self.flush(last=True)
        except BaseException as error:
            self.error = error
        finally:
            self.done = True

    async def _add(self, row: tuple[Any, ...]) -> bool:
        """False once nobody wants more inputs."""
        trace = tracing.begin()
        data = self._encode(row)
        units = min(MAX_UNITS, 1 + len(data) // UNIT_BYTES)
        for _ in range(units):
            if not await self._gate.acquire():
                return False
        payload = await serialization.to_passing_payload(self._port, data)
        tracing.serialized(trace)
        self._units[self.count] = units
        with self._sending:
            self._pending.append(InputItem(self.count, payload, trace=trace))
            self.count += 1
        if len(self._pending) >= BATCH or time.monotonic() - self._flushed > LINGER_S:
            self.flush()
            await self._port.pause()
        return True


async def rows_of(
    function: str, iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...], *, is_async: bool
) -> AsyncGenerator[tuple[Any, ...], None]:
    """The inputs' arguments: as `zip` has them, of plain and (on asyncio) asynchronous iterables."""
    if not iterables:
        raise InvalidError(f"{function}.map() needs an iterable of inputs for each argument of the function")
    iterators = [_iterator(function, n, iterable, is_async) for n, iterable in enumerate(iterables, 1)]
    while True:
        row: list[Any] = []
        for iterator in iterators:
            try:
                row.append(await iterator.__anext__() if hasattr(iterator, "__anext__") else next(iterator))
            except (StopIteration, StopAsyncIteration):  # noqa: PERF203 - the shortest iterable ends it
                return
        yield tuple(row)


def _iterator(function: str, number: int, iterable: Any, is_async: bool) -> Any:
    if is_async and hasattr(iterable, "__aiter__"):
        return iterable.__aiter__()
    try:
        return iter(iterable)
    except TypeError:
        kind = type(iterable).__name__
        hint = "; use .aio" if hasattr(iterable, "__aiter__") else ""
        raise InvalidError(
            f"argument {number} of {function}.map() is no iterable, but {kind}{hint}"
        ) from None
