"""One connection to the server: frames in and out, batched a loop iteration, with back-pressure told."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

from squall.wire import codec
from squall.wire.messages import NodeOutputs
from squall.wire.websocket import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from squall.wire.framing import Framing

log = logging.getLogger("squall.node")

#: A frame is closed when it has so many bytes.
_FRAME_BYTES = 1 << 20
#: Outputs of one message, the last of which alone may be over so many bytes.
_OUTPUTS, _LARGE = 256, 64 << 10
#: Bytes queued for the server at which containers are no longer read, and at which they are again.
_HIGH, _LOW = 8 << 20, 2 << 20


class Events(ABC):
    """What a connection tells its owner."""

    @abstractmethod
    def opened(self) -> None:
        """The handshake is done."""

    @abstractmethod
    def received(self, messages: Sequence[Any]) -> None:
        """Messages of one frame, in order."""

    @abstractmethod
    def congested(self, full: bool) -> None:
        """The server reads too slowly, or reads again."""

    @abstractmethod
    def lost(self, reason: str) -> None:
        """The connection is over."""


class Connection(asyncio.Protocol):
    """`send` never blocks; what one loop iteration sends leaves together."""

    def __init__(self, framing: Framing, events: Events) -> None:
        self._framing = framing
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._queue: list[object] = []
        self._was_open = False
        self._reason = "the server closed the connection"
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH, low=_LOW)
        self._transport.write(self._framing.opening())

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._framing.feed(data)
            if self._framing.open and not self._was_open:
                self._was_open = True
                self._events.opened()
            for frame in frames:
                self._events.received(codec.decode(frame))
        except (codec.ProtocolError, Refused) as error:
            self._reason = str(error)
            self.close()
            return
        if self._framing.farewell is not None:
            self._reason = self._framing.farewell
            self.close()
            return
        replies = self._framing.replies()
        if replies and self._transport is not None:
            self._transport.write(replies)

    def pause_writing(self) -> None:
        self._events.congested(full=True)

    def resume_writing(self) -> None:
        self._events.congested(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._queue.clear()
        self.closed.set()
        self._events.lost(str(exc) if exc is not None else self._reason)

    def send(self, *messages: object) -> None:
        if not self._queue:
            self._loop.call_soon(self._flush)
        self._queue += messages

    def buffered(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._transport is not None:
            self._flush()
            self._transport.write(self._framing.closing())
            self._transport.close()

    def abort(self) -> None:
        """Close now: the other side does not answer."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        queue, self._queue = self._queue, []
        if self._transport is None or not queue:
            return
        frame = bytearray()
        for message in _together(queue):
            frame += codec.encode([message])
            if len(frame) >= _FRAME_BYTES:
                self._transport.write(self._framing.frame(bytes(frame)))
                frame = bytearray()
        if frame:
            self._transport.write(self._framing.frame(bytes(frame)))


def _together(queue: list[object]) -> Iterator[object]:
    """The same, with outputs of one container that follow one another in one message."""
    outputs: NodeOutputs | None = None
    for message in queue:
        if not isinstance(message, NodeOutputs):
            if outputs is not None:
                yield outputs
                outputs = None
            yield message
        elif outputs is not None and outputs.container == message.container and not _full(outputs):
            outputs.items += message.items
        else:
            if outputs is not None:
                yield outputs
            outputs = NodeOutputs(message.container, list(message.items))
    if outputs is not None:
        yield outputs


def _full(outputs: NodeOutputs) -> bool:
    """With results of up to INLINE_LIMIT each, a message stays well below a frame's limit."""
    return len(outputs.items) >= _OUTPUTS or len(outputs.items[-1].output.outcome.payload.data) > _LARGE
