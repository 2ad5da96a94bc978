"""How many inputs of a function ended, how, and how long they ran: by the minute, for a day. In memory."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MINUTE = 60.0
#: Minutes that are kept of each function.
KEPT = 1_440


@dataclass(slots=True)
class Tally:
    """Inputs that ended within one minute from `start` on, wall-clock seconds."""

    start: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    longest: float = 0.0

    def add(self, other: Tally) -> None:
        self.ended += other.ended
        self.seconds += other.seconds
        self.longest = max(self.longest, other.longest)


class Tallies:
    """Of one function."""

    def __init__(self) -> None:
        self._minutes: deque[Tally] = deque(maxlen=KEPT)

    def ended(self, status: str, seconds: float, now: float) -> None:
        self.all_ended(Counter({status: 1}), seconds, now)

    def all_ended(self, statuses: Counter[str], seconds: float, now: float) -> None:
        """Inputs of one chunk, so long in all."""
        start = now - now % MINUTE
        if not self._minutes or self._minutes[-1].start < start:
            self._minutes.append(Tally(start))
        self._minutes[-1].add(Tally(start, statuses, seconds, seconds / max(1, statuses.total())))

    def line_ended(self, status: str, calls: int, seconds: float, now: float) -> None:
        """A direct line has, after so many calls of so long in all, the last of which ended so."""
        if not calls:
            return
        self.ended("ok" if status == "done" else status, seconds, now)
        newest = self._minutes[-1]
        newest.ended["ok"] += calls - 1
        newest.longest = max(newest.longest, seconds / calls)

    def within(self, since: float, until: float) -> Iterable[Tally]:
        """The minutes that lie, in part at least, within these bounds; 0 is no bound."""
        for minute in self._minutes:
            if minute.start + MINUTE > since and (not until or minute.start < until):
                yield minute


def total(parts: Iterable[Tally]) -> Tally:
    whole = Tally()
    for part in parts:
        whole.add(part)
    return whole
