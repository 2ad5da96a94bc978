"""The channel on an event loop: while no agent answers, user code goes on, and what is to be said waits."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from squall.runner import protocol
from squall.runner.channel import AGENT_PATIENCE, RETRY, AgentGoneError, LostError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from squall.runner.channel import Channel
    from squall.runner.protocol import Frame
    from squall.runner.protocol.spool import Pickled


class Connection:
    """`handle` gets each frame, `handled` is called when there are no more for now. The loop's exception
    handler gets AgentGoneError.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: Channel,
        handle: Callable[[Frame], None],
        handled: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._handle = handle
        self._handled = handled
        self._unsent: deque[tuple[tuple[Any, ...], Callable[[], object]]] = deque()
        self._away_since: float | None = None

    def start(self, hello: Callable[[], bytes]) -> None:
        """Take over the channel, which is connected. `hello` opens each further connection."""
        self._channel.on_drop = self._loop.remove_reader
        self._channel.on_connect = hello
        self._channel.reconnects = False
        self._loop.add_reader(self._channel.fileno(), self._readable)
        self._loop.call_soon(self._readable)  # what was read together with earlier frames

    def send(
        self,
        kind: int,
        number: int = 0,
        header: dict[str, Any] | None = None,
        payload: Pickled = b"",
        sent: Callable[[], object] = int,
    ) -> None:
        """One frame, after those before it; `sent` is called when it has left."""
        self._unsent.append(((kind, number, header, payload), sent))
        self._flush()

    def _flush(self) -> None:
        while self._unsent and self._away_since is None:
            frame, sent = self._unsent[0]
            try:
                self._channel.send(*frame)
            except LostError:
                self._lost()
                return
            self._unsent.popleft()
            sent()

    def _readable(self) -> None:
        if self._away_since is not None:
            return
        try:
            for frame in self._channel.received():
                self._handle(frame)
        except LostError:
            self._lost()
        self._handled()

    def _lost(self) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            # The next agent asks anew by its CONFIG.
            self._unsent = deque(waiting for waiting in self._unsent if waiting[0][0] != protocol.READY)
            self._loop.remove_reader(self._channel.fileno())
            self._loop.call_soon(self._again)

    def _again(self) -> None:
        assert self._away_since is not None
        if self._channel.try_connect():
            self._away_since = None
            self._loop.add_reader(self._channel.fileno(), self._readable)
            self._flush()
        elif time.monotonic() - self._away_since > AGENT_PATIENCE:
            raise AgentGoneError("no agent answers any more")
        else:
            self._loop.call_later(RETRY, self._again)
