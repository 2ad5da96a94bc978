"""Payloads of one container in their order: large ones become blobs first, the rest waits behind them."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING

from squall.node.transfers import TransferError

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.node.payloads import Payloads
    from squall.wire.values import Payload

    #: Called with the payload, or a line that says why it is lost.
    Deliver = Callable[[Payload | str], None]

#: How many may wait before the container is no longer read.
_MOST = 8


class Deliveries:
    """`busy` is told when too many wait, and when they do not any more."""

    def __init__(self, payloads: Payloads, busy: Callable[[bool], None]) -> None:
        self._payloads = payloads
        self._busy = busy
        self._queue: deque[tuple[Payload | int, Deliver, bool]] = deque()
        self._task: asyncio.Task[None] | None = None

    def add(self, payload: Payload | int, deliver: Deliver, *, passing: bool = False) -> None:
        """At once if nothing is before it and it is no descriptor (which is ours from now on).

        `passing` as in Payloads.store.
        """
        if self._task is None and not isinstance(payload, int):
            deliver(payload)
            return
        self._queue.append((payload, deliver, passing))
        if len(self._queue) == _MOST:
            self._busy(True)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def settle(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        for payload, _, _ in self._queue:
            if isinstance(payload, int):
                os.close(payload)
        self._queue.clear()

    async def _work(self) -> None:
        while self._queue:
            payload, deliver, passing = self._queue.popleft()
            if len(self._queue) == _MOST - 1:
                self._busy(False)
            deliver(await self._stored(payload, passing) if isinstance(payload, int) else payload)
        self._task = None

    async def _stored(self, fd: int, passing: bool) -> Payload | str:
        try:
            return await self._payloads.store(fd, passing=passing)
        except (TransferError, OSError) as error:
            return f"the result could not be kept: {error}"
