"""The inputs of a map on their way out, beside the results on their way in."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from squall.exception import InvalidError
from squall.sdk import serialization, tracing
from squall.sdk.chunking import KNOWN, Pace
from squall.wire.values import InputItem, Payload

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

    from squall.client.api import Call
    from squall.runner.protocol.spool import Pickled
    from squall.sdk.ports import Gate, Port
    from squall.wire.values import OutputItem, Trace

#: Inputs of a map that have no result yet, or whose results nobody has taken; the first ones go ahead.
OUTSTANDING = 1_000
FIRST = 32
#: Inputs that are sent together, and how long one may wait for others, in seconds.
BATCH = 64
LINGER_S = 0.02
#: An input that comes so many seconds after the last one is from a slow source: nothing waits for the next.
GAP_S = 0.001
#: A larger input counts as several: what is outstanding stays below OUTSTANDING times this, in bytes.
UNIT_BYTES = 64 << 10
MAX_UNITS = 32
#: Bytes of one chunk, and of the largest input that travels in one.
CHUNK_BYTES = 64 << 10
SMALL = 8 << 10


class Feeder:
    """Takes inputs from the user's iterator while there is room, and sends them in batches and chunks.

    Runs beside the flow that takes the results: in a thread of its own, so that an iterator that waits does
    not hold results up. That flow calls `linger` while it has nothing to do. Where it is known how many
    inputs there are, no iterator waits, and that flow takes them itself (`steps`): two threads of one
    interpreter are slower than one.
    """

    def __init__(
        self,
        port: Port[Any],
        call: Call,
        rows: AsyncGenerator[tuple[Any, ...], None],
        encode: Callable[[tuple[Any, ...]], Pickled],
        total: int | None,
    ) -> None:
        self.count = 0
        self.done = False
        self.sent = False
        self.error: BaseException | None = None
        self._port = port
        self._call = call
        self._rows = rows
        self._encode = encode
        self._pace = Pace(OUTSTANDING, total)
        self._gate: Gate = port.gate(FIRST)
        self.steps = port.threaded and total is not None
        self._narrow = OUTSTANDING - FIRST
        self._stopped = False
        self._room = FIRST if self.steps else 0
        self._freed = 0
        self._units: dict[int, int] = {}
        self._chunk: list[bytes] = []
        self._bytes = 0
        self._size = 1
        self._pending: list[InputItem] = []
        self._gone = 0
        self._arrived = 0
        self._sending = threading.Lock()
        self._flushed = 0.0
        self._added = time.monotonic()
        self._stop: Callable[[], None] = (lambda: None) if self.steps else port.beside(self._run())

    # -- from the consumer's side

    def arrived(self, output: OutputItem) -> None:
        """An outcome is here."""
        self._arrived += output.count
        payload = output.outcome.payload
        size = max(payload.size, len(payload.data))
        self._pace.ended(output.count, output.seconds, size, self._call.spread)
        if self._arrived >= KNOWN:
            self._widen(self._narrow)

    def taken(self, index: int, count: int = 1) -> None:
        """The consumer has these results: there is room for other inputs. What travels together comes free
        together, or the next ones would be cut to pieces.
        """
        self._freed += self._units.pop(index, count)
        if self._freed >= self._size or self._hungry():
            self._release(self._freed)
            self._freed = 0

    def is_over(self, arrived: int) -> bool:
        """Whether all outcomes are here, or no more will be asked for."""
        return self.error is not None or (self.done and arrived == self.count)

    def linger(self) -> None:
        """Nothing has come for LINGER_S."""
        self.flush()
        self._widen(OUTSTANDING - self._narrow)

    def stop(self) -> None:
        self._stopped = True
        self._gate.open()
        self._stop()

    def _widen(self, room: int) -> None:
        """The first ones are back, so that it is known whether others are quick, or take their time."""
        room = min(room, self._narrow)
        if room:
            self._narrow -= room
            self._release(room)

    def _release(self, room: int) -> None:
        if self.steps:
            self._room += room
        else:
            self._gate.release(room)

    async def step(self) -> bool:
        """Take inputs until some are sent, or there is no room; whether more may be taken at once."""
        gone = self._gone
        try:
            while self._room > 0 and self._gone == gone:
                row = await anext(self._rows, None)
                if row is None:
                    self.flush(last=True)
                    self.done = True
                    return False
                await self._take(row)
            if self._hungry() or self._gone - self._arrived < 2 * BATCH:
                self.flush()
        except BaseException as error:
            self.error = error
        return self._room > 0 and self.error is None

    # -- from both

    def flush(self, *, last: bool = False) -> None:
        """Send what waits. Inputs go out in the order of their indexes, whoever sends them."""
        with self._sending:
            self._close_chunk()
            items, self._pending = self._pending, []
            if items or (last and self.sent):
                self._flushed = time.monotonic()
                self.sent = True
                self._gone = self.count
                self._call.send(items, last=last)

    def _hungry(self) -> bool:
        """Whether containers may run out of inputs soon."""
        return self._gone - self._arrived < 2 * max(1, self._call.spread) * self._size

    # -- beside

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

    async def _take(self, row: tuple[Any, ...]) -> None:
        """Within a step."""
        trace = tracing.begin()
        data = self._encode(row)
        if len(data) <= SMALL and trace is None and isinstance(data, bytes):
            self._room -= 1
            full = self._put(data)
        else:
            units = min(MAX_UNITS, 1 + len(data) // UNIT_BYTES)
            self._room -= units
            full = await self._put_alone(data, units, trace)
        if full or time.monotonic() - self._flushed > LINGER_S:
            self.flush()

    async def _add(self, row: tuple[Any, ...]) -> bool:
        """False once nobody wants more inputs."""
        slow = time.monotonic() - self._added > GAP_S
        trace = tracing.begin()
        data = self._encode(row)
        units = min(MAX_UNITS, 1 + len(data) // UNIT_BYTES)
        while self._room < units:
            self.flush()
            more = await self._gate.acquire()
            if not more:
                return False
            self._room += more
        self._room -= units
        if trace is None and len(data) <= SMALL and isinstance(data, bytes):
            full = self._put(data)
        else:
            full = await self._put_alone(data, units, trace)
        now = time.monotonic()
        if full or now - self._flushed > LINGER_S or (slow and self._hungry()):
            self.flush()
            await self._port.pause()
        self._added = time.monotonic() if full else now
        return not self._stopped

    def _put(self, data: bytes) -> bool:
        """A small input; whether it is time to send."""
        with self._sending:
            if not self._chunk:
                self._size = self._pace.size(self.count)
            self._chunk.append(data)
            self._bytes += len(data)
            self.count += 1
            full = len(self._chunk) >= self._size or self._bytes >= CHUNK_BYTES
            if full:
                self._close_chunk()
        return full and (self._size > 1 or len(self._pending) >= BATCH)

    async def _put_alone(self, data: Pickled, units: int, trace: Trace | None) -> bool:
        payload = await serialization.to_passing_payload(self._port, data)
        tracing.serialized(trace)
        with self._sending:
            self._close_chunk()
            self._units[self.count] = units
            self._pending.append(InputItem(self.count, payload, trace=trace))
            self.count += 1
        return len(self._pending) >= BATCH

    def _close_chunk(self) -> None:
        """What has gathered is one item."""
        chunk, self._chunk, self._bytes = self._chunk, [], 0
        if not chunk:
            return
        data = chunk[0] if len(chunk) == 1 else b"".join(chunk)
        sizes = [len(piece) for piece in chunk] if len(chunk) > 1 else None
        self._pending.append(InputItem(self.count - len(chunk), Payload(data, size=len(data)), sizes=sizes))


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


async def spread(rows: AsyncGenerator[tuple[Any, ...], None]) -> AsyncGenerator[tuple[Any, ...], None]:
    """Of one iterable, whose items are all the arguments of a call."""
    async for (row,) in rows:
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
