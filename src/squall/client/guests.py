"""What the client knows of one guest: what it wrote and was not taken yet, and how much may be sent."""

from __future__ import annotations

from collections import deque

from squall import exception
from squall.client.calls import Target
from squall.wire.guests import WINDOW, GuestCredit, GuestData, GuestEnd


class GuestState(Target):
    """`sent` is the sender's to count: bytes so far."""

    def __init__(self, guest_id: str) -> None:
        super().__init__()
        self.id = guest_id
        self.sent = 0
        self._taken = 0
        self.failure: Exception | None = None
        self.ended = False
        self._events: deque[GuestData | GuestEnd] = deque()

    def received(self, message: GuestData | GuestCredit | GuestEnd) -> None:
        if isinstance(message, GuestCredit):
            self._taken += message.size
        else:
            self.ended = self.ended or isinstance(message, GuestEnd)
            self._events.append(message)
        self.changed()

    def lost(self, problem: Exception | None = None) -> None:
        """Nothing comes any more."""
        if not self.ended:
            self.failure = problem or exception.ConnectionError(
                "The connection to the server broke, and with it ended the program in the container."
            )
            self.changed()

    def ready(self) -> bool:
        return bool(self._events) or self.failure is not None

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        return WINDOW + self._taken - self.sent

    def may_send(self) -> bool:
        return self.room > 0 or self.is_over()

    def is_over(self) -> bool:
        return self.ended or self.failure is not None

    def take(self) -> GuestData | GuestEnd | None:
        """The next event, or None. Raises what broke it, once no event is left."""
        if self._events:
            return self._events.popleft()
        if self.failure is not None:
            raise self.failure
        return None
