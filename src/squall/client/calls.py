"""What the client knows of one call: inputs without an outcome, events not taken yet. No I/O."""

from __future__ import annotations

import os
import time
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

from squall.client.api import Event, ServiceRefusal, YieldItem
from squall.exception import RequestSizeError
from squall.wire import chunks, parcels
from squall.wire.indexes import Indexes
from squall.wire.messages import Accepted, Attach, Cancel, Credit, Inputs, Outputs, Received, Yields
from squall.wire.values import PAYLOAD_LIMIT, ErrorInfo, InputItem, Outcome, OutputItem, Payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Inputs of one message: at most so many, and so many bytes of inline payload (and one input more).
BATCH_ITEMS = 1000
BATCH_BYTES = 1 << 20
#: How many values of a generator the server sends before it hears of more credit.
FIRST_CREDIT = 64


def new_call_id() -> str:
    """Milliseconds, then 80 random bits: the rows of calls of one time lie together in the server's database.

    Unordered, each row of a batch would change a page of its own: more work, and more to sync.
    """
    return f"fc-{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


class Target:
    """Something that callers wait for. Listeners are called at each change, and must not block."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[], None]] = []

    def changed(self) -> None:
        for listener in tuple(self.listeners):
            listener()


class CallState(Target):
    """One call. Methods that change it return the messages that the server must get, if any."""

    def __init__(
        self,
        call_id: str,
        function: str = "",
        kind: str = "",
        *,
        durable: bool = False,
        parent: str = "",
        attach: tuple[int, int | None] | None = None,
    ) -> None:
        super().__init__()
        self.id = call_id
        self.function = function
        self.kind = kind
        self.durable = durable
        self.parent = parent
        self.failure: Exception | None = None
        #: -1: not even that there is such a call.
        self.accepted_upto = -1
        self._attached = attach is not None
        start, self._end = attach or (0, None)
        #: Parcels whose inputs have ended; the driver drops them.
        self.ended_parcels: list[str] = []
        self._waiting: dict[int, InputItem] = {}
        #: Of outputs in parcels that were not fetched yet: a server that dies takes those along.
        self._unfetched: dict[int, list[InputItem]] = {}
        #: Whether inputs are sent in chunks, and as the server said last, how many containers share them.
        self._chunked = False
        self.spread = 0
        self._sent_last = False
        self._events: deque[Event] = deque()
        self._seen = Indexes(start)
        self._next_yield: dict[int, int] = {}
        self._credits: dict[int, int] = {}
        self._acks: list[int] = []
        self._cancel: Cancel | None = None

    # ------------------------------------------------------------------------------------ from the caller

    def send(self, items: Sequence[InputItem], *, last: bool) -> list[object]:
        for item in items:
            check_size(item.payload)
        self._waiting.update((item.index, item) for item in items)
        self._chunked = self._chunked or any(item.count > 1 for item in items)
        self._sent_last = self._sent_last or last
        return self._inputs(list(items))

    def credit(self, index: int, upto: int) -> list[object]:
        if upto <= self._credits.get(index, FIRST_CREDIT):
            return []
        self._credits[index] = upto
        return [Credit(self.id, index, upto)]

    def cancel(self, *, terminate: bool) -> list[object]:
        self._cancel = Cancel(self.id, terminate=terminate)
        return [self._cancel]

    def ready(self) -> bool:
        return bool(self._events) or self.failure is not None

    def is_accepted(self, upto: int) -> bool:
        return self.accepted_upto >= upto or self.failure is not None

    def take(self) -> Event | None:
        """The next event, or None. Raises the call's failure once no event is left."""
        if not self._events:
            if self.failure is not None:
                raise self.failure
            return None
        event = self._events.popleft()
        if isinstance(event, OutputItem) and not in_parcel(event):
            self._acks.append(event.index)
        return event

    def fetched(self, index: int) -> None:
        """The content of an output is here, which came in a parcel."""
        self._acks.append(index)
        for item in self._unfetched.pop(index, ()):
            self._ended(item)

    def lost(self, index: int) -> list[object] | None:
        """The parcel of an output is gone with its server: the input runs again. None if it cannot."""
        items = self._unfetched.pop(index, None)
        if items is None:
            return None
        for item in items:
            for number in range(item.index, item.index + item.count):
                self._seen.discard(number)
            self._waiting[item.index] = item
        return self._inputs(items)

    def end(self) -> list[str]:
        """Nobody listens any more; the parcels that are of no use now."""
        for item in (*self._waiting.values(), *chain.from_iterable(self._unfetched.values())):
            self._ended(item)
        ended, self.ended_parcels = self.ended_parcels, []
        return ended

    def _ended(self, item: InputItem) -> None:
        if item.payload.blob and parcels.is_name(item.payload.blob):
            self.ended_parcels.append(item.payload.blob)

    # ------------------------------------------------------------------------------------ from the server

    def outputs(self, message: Outputs) -> None:
        self.spread = message.spread
        for item in message.items:
            ended = self._done(item)
            if self._end is not None and item.index >= self._end:
                continue  # nobody asked for it
            if item.count > 1:
                self._take_chunk(item)
            elif self._seen.add(item.index):
                self._events.append(item)
            else:
                self._acks.append(item.index)  # the server has not heard that it is here already
                continue
            if ended and in_parcel(item):
                self._unfetched[item.index] = ended
            for input_item in ended if not in_parcel(item) else ():
                self._ended(input_item)

    def _take_chunk(self, item: OutputItem) -> None:
        """Each of its inputs once."""
        if self._seen.add_all(item.index, item.count):
            self._events.append(item)
            return
        numbers = range(item.index, item.index + item.count)
        known = [number for number in numbers if number in self._seen]
        if len(known) == item.count:
            self._acks.append(item.index)
        else:
            self._events.extend(o for o in chunks.outputs_apart(item) if o.index not in self._seen)
        for number in numbers:
            self._seen.add(number)

    def _done(self, output: OutputItem) -> list[InputItem]:
        """The inputs that this is the outcome of."""
        item = self._waiting.get(output.index)
        if item is not None and item.count == output.count:
            del self._waiting[output.index]
            return [item]
        if self._chunked:
            self._take_apart(output.index)
        numbers = range(output.index, output.index + output.count)
        found = (self._waiting.pop(number, None) for number in numbers)
        return [item for item in found if item is not None]

    def _take_apart(self, index: int) -> None:
        """The chunk that this is one of: its inputs have gone their own ways."""
        for first in range(index, max(-1, index - chunks.MAX_COUNT), -1):
            chunk = self._waiting.get(first)
            if chunk is not None:
                if chunk.count > max(1, index - first):
                    del self._waiting[first]
                    self._waiting.update((piece.index, piece) for piece in chunks.apart(chunk))
                return

    def yields(self, message: Yields) -> None:
        expected = self._next_yield.get(message.index, 0)
        if message.first > expected:
            self.failure = ServiceRefusal(
                "internal", f"values of a generator were lost after number {expected}"
            )
            return
        for number, payload in enumerate(message.payloads[expected - message.first :], expected):
            self._events.append(YieldItem(message.index, number, payload))
            self._next_yield[message.index] = number + 1

    def accepted(self, message: Accepted) -> None:
        self.accepted_upto = max(self.accepted_upto, message.upto)
        # What is on the server's disk need not be kept here.
        for index in [i for i in self._waiting if i < message.upto]:
            del self._waiting[index]

    # ----------------------------------------------------------------------------------------- connection

    def received(self) -> Received | None:
        """The acknowledgement of what was taken since the last one."""
        if not self._acks:
            return None
        acks, self._acks = self._acks, []
        return Received(self.id, acks)

    def again(self, *, new_session: bool) -> list[object]:
        """What a server must be told after a new connection: it may have got none of it, or all."""
        if new_session:
            self._end_begun_generators()
        messages: list[object] = []
        if self._waiting or (self._sent_last and (self.durable or not new_session)):
            messages += self._inputs(list(self._waiting.values()))
        if self._attached or self.accepted_upto >= 0:
            parent = self.parent if self._attached else ""
            messages.append(Attach(self.id, self._seen.low, self._end, parent))
        messages += [Credit(self.id, index, upto) for index, upto in self._credits.items()]
        if self._cancel is not None:
            messages.append(self._cancel)
        return messages

    def _end_begun_generators(self) -> None:
        """A server that forgot the session would run a generator again, and values would come twice."""
        if self.durable or self._attached:
            return
        for index in [i for i in self._waiting if self._next_yield.get(i)]:
            error = ErrorInfo("InternalFailure", "The server restarted while the generator ran.")
            self.outputs(Outputs(self.id, [OutputItem(index, Outcome("failed", error=error))]))

    def _inputs(self, items: list[InputItem]) -> list[object]:
        batches = list(batched(items)) or [[]]
        ends = [False] * (len(batches) - 1) + [self._sent_last]
        return [
            Inputs(self.id, self.function, self.kind, batch, end, self.durable, self.parent)
            for batch, end in zip(batches, ends, strict=True)
        ]


def in_parcel(output: OutputItem) -> bool:
    blob = output.outcome.payload.blob
    return bool(blob) and parcels.is_name(blob)


def batched(items: list[InputItem]) -> Iterator[list[InputItem]]:
    """Inputs in messages of a bounded size."""
    batch: list[InputItem] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item.payload.data)
        if size >= BATCH_BYTES or len(batch) >= BATCH_ITEMS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def check_size(payload: Payload) -> None:
    """Raises RequestSizeError for an argument over the limit."""
    size = max(payload.size, len(payload.data))
    if size > PAYLOAD_LIMIT:
        raise RequestSizeError(
            f"The arguments of one call take {size / 2**20:.0f} MiB, over the limit of "
            f"{PAYLOAD_LIMIT >> 20} MiB: split them over several calls."
        )
