"""A call of the asyncio client."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from squall.client.api import Call
from squall.client.calls import in_parcel
from squall.exception import InvalidError
from squall.wire.values import OutputItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squall.client.aio import AsyncioClient
    from squall.client.api import Event
    from squall.client.calls import CallState
    from squall.wire.values import InputItem


class AsyncCall(Call):
    """See squall.client.api.Call. For the loop of its client."""

    def __init__(self, client: AsyncioClient, state: CallState) -> None:
        self.id = state.id
        self._client = client
        self._state = state

    @property
    def spread(self) -> int:
        return self._state.spread

    def send(self, items: Sequence[InputItem], *, last: bool) -> None:
        self._client.session.send(self._state, list(items), last=last)
        self._client.flush()

    async def next_async(self, timeout: float | None = None) -> Event:
        deadline = None if timeout is None else time.monotonic() + timeout
        session = self._client.session
        while True:
            event = session.next_event(self._state)
            if event is not None and await self._fetched(event):
                self._client.flush()
                return event
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            await self._client.wait(self._state, self._state.ready, left, "The call has no result")

    async def _fetched(self, event: Event) -> bool:
        if not isinstance(event, OutputItem) or not in_parcel(event):
            return True
        found = await asyncio.to_thread(self._client.session.fetch, self._state, event)
        self._client.flush()
        return found

    async def accepted_async(self, upto: int, timeout: float | None = None) -> None:
        state = self._state
        what = "The inputs were not accepted"
        await self._client.wait(state, lambda: state.is_accepted(upto), timeout, what)
        if state.accepted_upto < upto and state.failure is not None:
            raise state.failure

    def credit(self, index: int, upto: int) -> None:
        self._client.session.credit(self._state, index, upto)
        self._client.flush()

    def cancel(self, *, terminate: bool = False) -> None:
        self._client.session.cancel(self._state, terminate=terminate)
        self._client.flush()

    def close(self) -> None:
        self._client.session.remove_call(self._state)

    def next(self, timeout: float | None = None) -> Event:  # noqa: ARG002 - the interface's
        raise InvalidError("This call belongs to an asyncio client: await next_async().")

    def accepted(self, upto: int, timeout: float | None = None) -> None:  # noqa: ARG002
        raise InvalidError("This call belongs to an asyncio client: await accepted_async().")
