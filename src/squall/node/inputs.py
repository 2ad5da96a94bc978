"""The inputs of one container: which wait here, which the runner has, which of those run. Pure.

The runner begins in order and works on `slots` of them at once, so the first that it has are those that run;
nobody needs to say so, except where it gathers batches. What it has beyond that is prefetched: enough that a
quick function never waits for us, and no more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from squall.wire.messages import NodeYields

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from squall.node.direct import Page
    from squall.wire.messages import NodeInput
    from squall.wire.values import Payload

#: Work that a runner holds in advance, in seconds, and how many inputs at most.
AHEAD_SECONDS = 0.005
AHEAD_MOST = 256
#: A runner that has so many inputs in advance is left alone for this part of the time that they take, and
#: for so many seconds at most.
REST_AHEAD = 8
REST_PART = 0.25
REST_MOST = 0.002
#: The weight of the newest duration in the mean.
_WEIGHT = 0.1
#: Yields that are kept for the next connection when no bound was given.
_KEPT_YIELDS = 64
#: And bytes of them in all.
_KEPT_BYTES = 8 << 20


class OutOfTurnError(Exception):
    """The runner spoke of an input that does not run."""


@dataclass(eq=False)
class Attempt:
    """One attempt at one input. `verdict`: "", or how it will end whatever the runner says ("cancelled",
    "timeout"). `dropped`: revoked before it began; the runner's answer is nobody's business.
    """

    number: int
    input: NodeInput
    #: When it became one that runs.
    began: float = 0.0
    verdict: str = ""
    dropped: bool = False
    #: When its container is to be killed if it has not reacted to its verdict.
    kill_at: float | None = None
    #: Whether the server was told that it runs.
    told: bool = False
    credit: int = 0
    yields: int = 0
    #: How many inputs of the user's it is.
    count: int = 1
    #: It is a direct call.
    line: bool = False
    #: Of a direct call, and of a chunk, what its runner notes.
    page: Page | None = None
    #: The newest yields: (number, payload).
    kept: deque[tuple[int, Payload]] = field(default_factory=deque)
    kept_bytes: int = 0

    @property
    def key(self) -> tuple[str, int]:
        return self.input.input, self.input.attempt

    def since(self, now: float) -> float:
        """When what runs began: of a direct call, the call on its line; of a chunk, its input."""
        return self.began if self.page is None else self.page.since(now)

    def may_yield(self, number: object) -> bool:
        """Whether the next value may have this number. How many an adopted attempt has given, only its runner
        knows; it was bounded by a credit that we do not know either, and the server checks both.
        """
        if not self.input.generator:
            return False
        if self.yields < 0 and isinstance(number, int) and number >= 0:
            self.yields, self.credit = number, number + _KEPT_YIELDS
        return number == self.yields and self.yields < self.credit

    def keep(self, number: int, payload: Payload) -> None:
        """The newest ones, for the next connection. If more is lost, the server gives the input up."""
        self.kept.append((number, payload))
        self.kept_bytes += len(payload.data)
        while len(self.kept) > max(self.input.credit, _KEPT_YIELDS) or self.kept_bytes > _KEPT_BYTES:
            self.kept_bytes -= len(self.kept.popleft()[1].data)

    def kept_yields(self, container: str) -> NodeYields | None:
        """Those that the server may not have."""
        if not self.kept:
            return None
        return NodeYields(container, *self.key, self.kept[0][0], [payload for _, payload in self.kept])


class Inputs:
    """Times are seconds of any monotonic clock. With `tells`, the runner says which inputs begin."""

    def __init__(self, slots: int = 1, *, tells: bool = False) -> None:
        self.slots = slots
        self.waiting: deque[Attempt] = deque()
        self._tells = tells
        self._sent: dict[int, Attempt] = {}
        #: Those of them that run, in the order in which they began, and those that will (or are no more).
        self._begun: dict[int, Attempt] = {}
        self._ahead: deque[Attempt] = deque()
        self._next = 1
        self._mean: float | None = None

    def __len__(self) -> int:
        """How many the container has, without those that were dropped."""
        return len(self.waiting) + sum(not a.dropped for a in self._sent.values())

    @property
    def begun(self) -> Collection[Attempt]:
        """Those that run."""
        return self._begun.values()

    @property
    def window(self) -> int:
        """How many the runner may have: those that run, and those in advance."""
        if not self._mean:
            return self.slots + (1 if self._mean is None else AHEAD_MOST)
        return self.slots + min(AHEAD_MOST, max(1, int(self.slots * AHEAD_SECONDS / self._mean)))

    @property
    def rest(self) -> float:
        """For how long (seconds) the runner can do without us: a part of what it has in advance."""
        ahead = len(self._sent) - self.slots
        return min(REST_MOST, REST_PART * ahead * (self._mean or 0.0)) if ahead >= REST_AHEAD else 0.0

    @property
    def sent(self) -> Collection[Attempt]:
        return self._sent.values()

    def all(self) -> list[Attempt]:
        return [*(a for a in self._sent.values() if not a.dropped), *self.waiting]

    def add(self, inputs: Iterable[NodeInput]) -> None:
        for item in inputs:
            self.waiting.append(Attempt(self._next, item, credit=item.credit, count=item.count))
            self._next += 1

    def adopt(self, number: int, item: NodeInput, now: float, count: int = 1) -> None:
        """One that the runner had already, before this agent lived; in the runner's order.

        Where the runner tells what begins, it has told somebody else: all that can run counts as begun.
        """
        attempt = Attempt(number, item, yields=-1, count=count)
        self._sent[number] = attempt
        self._next = max(self._next, number + 1)
        if len(self._begun) < self.slots:
            self._begin(attempt, now)
        elif not self._tells:
            self._ahead.append(attempt)

    def take(self, now: float) -> Attempt | None:
        """The next one that may be given to the runner; it counts as given."""
        if not self.waiting or len(self._sent) >= self.window:
            return None
        attempt = self.waiting.popleft()
        self._sent[attempt.number] = attempt
        if not self._tells:
            self._ahead.append(attempt)
            self._promote(now)
        return attempt

    def get(self, number: int) -> Attempt | None:
        return self._sent.get(number)

    def find(self, key: tuple[str, int]) -> Attempt | None:
        return next((a for a in (*self._sent.values(), *self.waiting) if a.key == key), None)

    def begin(self, number: int, now: float) -> Attempt:
        """The runner says that it has begun this one. Raises OutOfTurnError."""
        attempt = self._sent.get(number)
        if attempt is None or not self._tells:
            raise OutOfTurnError(f"a beginning of input {number}, which is not there")
        if number not in self._begun:
            self._begin(attempt, now)
        return attempt

    def finish(self, number: int, now: float) -> tuple[Attempt, float]:
        """The runner has answered; the attempt, and the seconds that it took. Raises OutOfTurnError."""
        attempt = self._sent.get(number)
        if attempt is None or not (attempt.dropped or number in self._begun):
            raise OutOfTurnError(f"an answer to input {number}, which does not run")
        seconds = max(0.0, now - attempt.began) if number in self._begun else 0.0
        if not attempt.dropped and not attempt.line:
            self._mean = seconds if self._mean is None else self._mean + _WEIGHT * (seconds - self._mean)
        self.forget(number, now)
        return attempt, seconds

    def forget(self, number: int, now: float) -> None:
        """The runner does not have it any more, or after all."""
        self._sent.pop(number, None)
        self._begun.pop(number, None)
        self._promote(now)

    def has_begun(self, attempt: Attempt) -> bool:
        return attempt.number in self._begun

    def drop(self, attempt: Attempt) -> bool:
        """Revoke one that has not begun. True when the runner has it and must be told."""
        if attempt in self.waiting:
            self.waiting.remove(attempt)
            return False
        attempt.dropped = True
        return True

    def unbegun(self) -> list[Attempt]:
        """Those that nobody has begun, in order."""
        return [a for a in self.all() if a.number not in self._begun]

    def _promote(self, now: float) -> None:
        while self._ahead and len(self._begun) < self.slots:
            attempt = self._ahead.popleft()
            if attempt.number in self._sent:
                self._begin(attempt, now)

    def _begin(self, attempt: Attempt, now: float) -> None:
        attempt.began = now
        self._begun[attempt.number] = attempt
