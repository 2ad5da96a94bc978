"""A guest of the blocking client."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from squall.client.api import Guest
from squall.client.guests import GuestState
from squall.wire.guests import PIECE, GuestCredit, GuestData, GuestEnd, GuestResize, Join

if TYPE_CHECKING:
    from squall.client.blocking import BlockingClient


class BlockingGuest(Guest):
    """See squall.client.api.Guest."""

    def __init__(self, client: BlockingClient, guest_id: str) -> None:
        self.id = guest_id
        self._client = client
        self._session = client.session
        self._state = GuestState(guest_id)
        self._sending = threading.Lock()

    def begin(
        self, container: str, argv: list[str], env: dict[str, str], terminal: tuple[int, int] | None
    ) -> None:
        rows, columns = terminal or (0, 0)
        self._session.join(
            self._state, Join(self.id, container, argv, env, terminal is not None, rows, columns)
        )
        self._client.flush()

    def next(self, timeout: float | None = None) -> GuestData | GuestEnd:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (event := self._state.take()) is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._client.wait(
                self._state, self._state.ready, left, "The program in the container wrote nothing"
            )
        if isinstance(event, GuestData):
            self._tell(GuestCredit(self.id, len(event.data)))
        return event

    def send(self, data: bytes) -> None:
        state, at = self._state, 0
        with self._sending:
            while at < len(data):
                if not state.may_send():
                    self._client.wait(state, state.may_send, None)
                if state.is_over():
                    return
                piece = data[at : at + min(PIECE, state.room)]
                state.sent += len(piece)
                at += len(piece)
                self._tell(GuestData(self.id, 0, piece))

    def end_input(self) -> None:
        with self._sending:
            self._tell(GuestData(self.id, 0, b""))

    def resize(self, rows: int, columns: int) -> None:
        self._tell(GuestResize(self.id, rows, columns))

    def close(self) -> None:
        self._session.leave(self._state)
        self._client.flush()

    def _tell(self, message: object) -> None:
        self._session.tell(self._state, message)
        self._client.flush()
