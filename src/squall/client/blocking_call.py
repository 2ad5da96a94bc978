"""A call of the blocking client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from squall import exception
from squall.client.api import Call
from squall.exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squall.client.api import Event
    from squall.client.blocking import BlockingClient
    from squall.client.calls import CallState
    from squall.wire.values import InputItem


class BlockingCall(Call):
    """See squall.client.api.Call. Several threads may use it; each event is given to one of them."""

    def __init__(self, client: BlockingClient, state: CallState) -> None:
        self.id = state.id
        self._client = client
        self._session = client.session
        self._state = state

    @property
    def spread(self) -> int:
        return self._state.spread

    def send(self, items: Sequence[InputItem], *, last: bool) -> None:
        self._check()
        self._session.send(self._state, list(items), last=last)
        self._client.flush()

    def next(self, timeout: float | None = None) -> Event:
        self._check()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            event = self._session.next_event(self._state)
            if event is not None and self._session.fetch(self._state, event):
                return event
            if event is not None:
                self._client.flush()
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._client.wait(self._state, self._state.ready, left, "The call has no result")

    def accepted(self, upto: int, timeout: float | None = None) -> None:
        self._check()
        state = self._state
        self._client.wait(state, lambda: state.is_accepted(upto), timeout, "The inputs were not accepted")
        if state.accepted_upto < upto and state.failure is not None:
            raise state.failure

    def credit(self, index: int, upto: int) -> None:
        self._check()
        self._session.credit(self._state, index, upto)
        self._client.flush()

    def cancel(self, *, terminate: bool = False) -> None:
        self._check()
        self._session.cancel(self._state, terminate=terminate)
        self._client.flush()

    def close(self) -> None:
        self._session.remove_call(self._state)

    async def next_async(self, timeout: float | None = None) -> Event:  # noqa: ARG002
        raise InvalidError("This call belongs to a blocking client: use next().")

    async def accepted_async(self, upto: int, timeout: float | None = None) -> None:  # noqa: ARG002
        raise InvalidError("This call belongs to a blocking client: use accepted().")

    def _check(self) -> None:
        if self._client.session is not self._session:
            raise exception.ConnectionError(
                "This call was made before the process forked: make it in the child."
            )
