"""A connection as the control plane sees it, whatever carries its frames: coalescing, limits, refusals.

What a WebSocket implementation has to do is `Wire`; `fast` and `plain` are the two.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from squall.server.connection import Connection
from squall.server.transport.peers import name_of
from squall.wire import codec
from squall.wire.messages import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from squall.server.connection import Acceptor, Listener, Peer
    from squall.server.transport.limits import Limits

log = logging.getLogger("squall.server.transport")

#: Frames are made no larger than this, unless a single message is.
FRAME_BYTES = 4 << 20

#: Close codes of RFC 6455, section 7.4.1.
NORMAL, PROTOCOL_ERROR, TOO_BIG, INTERNAL_ERROR, RESTART = 1000, 1002, 1009, 1011, 1012


class Wire(ABC):
    """Frames in WebSocket messages, for one connection."""

    @abstractmethod
    def write(self, frame: bytes) -> None: ...

    @abstractmethod
    def pending(self) -> int:
        """Bytes that the kernel has not taken."""

    @abstractmethod
    def read(self, *, on: bool) -> None:
        """Go on or stop reading."""

    @abstractmethod
    def finish(self, code: int) -> None:
        """Say farewell and close once what is pending has left."""

    @abstractmethod
    def abort(self) -> None:
        """Close at once."""


class Link(Connection):
    """One peer. The implementation calls `open`, `received` and, once and last, `lost`."""

    def __init__(
        self, peer: Peer, acceptor: Acceptor, limits: Limits, links: set[Link], known: Callable[[], None]
    ) -> None:
        self.peer = peer
        self._known = known
        self._acceptor = acceptor
        self._limits = limits
        self._links = links
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._listener: Listener | None = None
        self._outbox: list[object] = []
        self._paused = False
        self._reading = True
        #: Something was received, something was sent: in between reading stops, so that who is not yet
        #: known can make the server hold no more than the first frame.
        self._heard = self._answered = False
        self._ending: asyncio.TimerHandle | None = None
        self._end = self._loop.create_future()
        self._gone = False

    def open(self, wire: Wire) -> None:
        self._wire = wire
        self._links.add(self)
        self._listener = self._acceptor.accept(self)

    # ------------------------------------------------------------------------------- for the control plane

    def send(self, *messages: object) -> None:
        if self._gone or self._ending is not None:
            return
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.extend(messages)

    def known(self) -> None:
        self._known()

    def buffered(self) -> int:
        return 0 if self._wire is None or self._gone else self._wire.pending()

    def pause(self) -> None:
        self._paused = True
        self._set_reading()

    def resume(self) -> None:
        self._paused = False
        self._set_reading()

    def close(self, code: int = NORMAL) -> None:
        if self._gone or self._ending is not None or self._wire is None:
            return
        self._flush()
        self._ending = self._loop.call_later(self._limits.farewell, self._wire.abort)
        self._wire.finish(code)

    def end(self, code: int) -> asyncio.Future[None]:
        """Close; done when the connection is gone, `limits.farewell` seconds later at the latest."""
        self.close(code)
        return self._end

    # ----------------------------------------------------------------------------------------- the sending

    def _flush(self) -> None:
        messages, self._outbox = self._outbox, []
        if not messages or self._gone or self._ending is not None or self._wire is None:
            return
        for frame in _frames(messages):
            if len(frame) > codec.FRAME_LIMIT:
                log.error("a message to %s is over the frame limit: the connection ends", name_of(self.peer))
                self.close(INTERNAL_ERROR)
                return
            self._wire.write(frame)
        self._answered = True
        self._set_reading()
        if self._wire.pending() > self._limits.backlog:
            log.warning("%s does not read what it is sent: its connection ends", name_of(self.peer))
            self._wire.abort()

    # --------------------------------------------------------------------------------------- the receiving

    @property
    def expects_hello(self) -> bool:
        """Nothing was received yet, so no frame may be large."""
        return not self._heard

    def received(self, frame: bytes) -> None:
        if self._gone or self._ending is not None or self._listener is None:
            return
        if not self._heard and len(frame) > self._limits.hello_bytes:
            self.refuse("its first frame is no Hello", TOO_BIG)
            return
        try:
            messages = codec.decode(frame)
        except codec.ProtocolError as error:
            self.refuse(str(error))
            return
        self._heard = True
        self._set_reading()
        try:
            if messages:
                self._listener.received(messages)
        except Exception:
            log.exception("a message of %s was not handled: its connection ends", name_of(self.peer))
            self.send(Failure(0, "internal", "the server failed at this: see its log"))
            self.close(INTERNAL_ERROR)

    def refuse(self, why: str, code: int = PROTOCOL_ERROR) -> None:
        """The peer does not speak the protocol."""
        if self._gone or self._ending is not None:
            return
        line = " ".join(why.split())[:500]
        log.warning("%s does not speak the protocol (%s): its connection ends", name_of(self.peer), line)
        self.send(Failure(0, "invalid", f"this is not Squall's protocol: {line}"))
        self.close(code)

    def lost(self) -> None:
        if self._gone:
            return
        self._gone = True
        self._outbox.clear()
        self._links.discard(self)
        self._known()
        if self._ending is not None:
            self._ending.cancel()
        self._end.set_result(None)
        if self._listener is not None:
            self._listener.closed()

    def _set_reading(self) -> None:
        wanted = not self._paused and (self._answered or not self._heard)
        if wanted != self._reading and self._wire is not None and not self._gone and self._ending is None:
            self._reading = wanted
            self._wire.read(on=wanted)


def _frames(messages: Sequence[object]) -> Iterator[bytes]:
    """One, as a rule."""
    frame = codec.encode(messages)
    if len(frame) <= FRAME_BYTES or len(messages) == 1:
        yield frame
        return
    parts: list[bytes] = []
    size = 0
    for part in (codec.encode((message,)) for message in messages):
        if parts and size + len(part) > FRAME_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    yield b"".join(parts)
