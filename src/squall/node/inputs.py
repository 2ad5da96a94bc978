"""The inputs of one container: which wait here, which the runner has, which one runs. Pure.

The runner works in order, so the first that it has is the one that runs; nobody needs to say so. What it has
beyond that is prefetched: enough that a quick function never waits for us, and no more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squall.wire.messages import NodeInput
    from squall.wire.values import Payload

#: Work that a runner holds in advance, in seconds, and how many inputs at most.
AHEAD_SECONDS = 0.005
AHEAD_MOST = 256
#: The weight of the newest duration in the mean.
_WEIGHT = 0.1
#: Yields that are kept for the next connection when no bound was given.
_KEPT_YIELDS = 64
#: And bytes of them in all.
_KEPT_BYTES = 8 << 20


class OutOfTurnError(Exception):
    """The runner answered an input that is not the one that runs."""


@dataclass(eq=False)
class Attempt:
    """One attempt at one input. `verdict`: "", or how it will end whatever the runner says ("cancelled",
    "timeout"). `dropped`: revoked before it began; the runner's answer is nobody's business.
    """

    number: int
    input: NodeInput
    #: When it became the one that runs.
    began: float = 0.0
    verdict: str = ""
    dropped: bool = False
    #: Whether the server was told that it runs.
    told: bool = False
    credit: int = 0
    yields: int = 0
    #: The newest yields: (number, payload).
    kept: deque[tuple[int, Payload]] = field(default_factory=deque)
    kept_bytes: int = 0

    @property
    def key(self) -> tuple[str, int]:
        return self.input.input, self.input.attempt

    def may_yield(self, number: object) -> bool:
        """Whether the next value may have this number. How many an adopted attempt has given, only its runner
        knows; it was bounded by a credit that we do not know either, and the server checks both.
        """
        if self.yields < 0 and isinstance(number, int) and number >= 0:
            self.yields, self.credit = number, number + _KEPT_YIELDS
        return number == self.yields and self.yields < self.credit

    def keep(self, number: int, payload: Payload) -> None:
        """The newest ones, for the next connection. If more is lost, the server gives the input up."""
        self.kept.append((number, payload))
        self.kept_bytes += len(payload.data)
        while len(self.kept) > max(self.input.credit, _KEPT_YIELDS) or self.kept_bytes > _KEPT_BYTES:
            self.kept_bytes -= len(self.kept.popleft()[1].data)


class Inputs:
    """Times are seconds of any monotonic clock."""

    def __init__(self) -> None:
        self.waiting: deque[Attempt] = deque()
        self._sent: dict[int, Attempt] = {}
        self._next = 1
        self._mean: float | None = None

    def __len__(self) -> int:
        """How many the container has, without those that were dropped."""
        return len(self.waiting) + sum(not a.dropped for a in self._sent.values())

    @property
    def running(self) -> Attempt | None:
        """The first that the runner has."""
        for attempt in self._sent.values():
            return attempt
        return None

    @property
    def window(self) -> int:
        """How many the runner may have: the one that runs, and those in advance."""
        if not self._mean:
            return 2 if self._mean is None else 1 + AHEAD_MOST
        return 1 + min(AHEAD_MOST, max(1, int(AHEAD_SECONDS / self._mean)))

    @property
    def sent(self) -> list[Attempt]:
        return list(self._sent.values())

    def all(self) -> list[Attempt]:
        return [*(a for a in self._sent.values() if not a.dropped), *self.waiting]

    def add(self, inputs: Iterable[NodeInput]) -> None:
        for item in inputs:
            self.waiting.append(Attempt(self._next, item, credit=item.credit))
            self._next += 1

    def adopt(self, number: int, item: NodeInput, now: float) -> None:
        """One that the runner had already, before this agent lived; in the runner's order."""
        attempt = Attempt(number, item, yields=-1)
        if not self._sent:
            attempt.began = now
        self._sent[number] = attempt
        self._next = max(self._next, number + 1)

    def take(self, now: float) -> Attempt | None:
        """The next one that may be given to the runner; it counts as given."""
        if not self.waiting or len(self._sent) >= self.window:
            return None
        attempt = self.waiting.popleft()
        if not self._sent:
            attempt.began = now
        self._sent[attempt.number] = attempt
        return attempt

    def get(self, number: int) -> Attempt | None:
        return self._sent.get(number)

    def find(self, key: tuple[str, int]) -> Attempt | None:
        return next((a for a in (*self._sent.values(), *self.waiting) if a.key == key), None)

    def finish(self, number: int, now: float) -> tuple[Attempt, float]:
        """The runner has answered; the attempt, and the seconds that it took. Raises OutOfTurnError."""
        attempt = self.running
        if attempt is None or attempt.number != number:
            raise OutOfTurnError(f"an answer to input {number}, which does not run")
        del self._sent[number]
        seconds = max(0.0, now - attempt.began)
        if not attempt.dropped:
            self._mean = seconds if self._mean is None else self._mean + _WEIGHT * (seconds - self._mean)
        following = self.running
        if following is not None:
            following.began = now
        return attempt, seconds

    def forget(self, number: int, now: float) -> None:
        """The runner does not have it after all."""
        self._sent.pop(number, None)
        following = self.running
        if following is not None and not following.began:
            following.began = now

    def begun(self, attempt: Attempt) -> bool:
        return attempt is self.running

    def drop(self, attempt: Attempt) -> bool:
        """Revoke one that has not begun. True when the runner has it and must be told."""
        if attempt in self.waiting:
            self.waiting.remove(attempt)
            return False
        attempt.dropped = True
        return True

    def unbegun(self) -> list[Attempt]:
        """Those that nobody has begun, in order."""
        running = self.running
        return [a for a in self.all() if a is not running]
