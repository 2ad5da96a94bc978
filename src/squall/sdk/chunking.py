"""How many inputs of a map travel together. Pure: decides by what has come back.

Each trip of an input costs our processes some CPU time, so quick inputs travel in chunks. A chunk must not
make an input wait that another container could run: it is short, and there are several for each container as
long as there are inputs. Slow inputs travel alone, and so do the first ones, until it is known that they are
quick, and the last ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Work of one chunk in seconds: at most, and as much as nobody minds waiting for.
WORK_S = 0.06
LITTLE_S = 0.004
#: Chunks for each container that should be under way.
EACH = 4
#: The most inputs of a chunk, and the most bytes of its results.
MOST = 250
RESULT_BYTES = 64 << 10
#: Outcomes without which nothing is known.
KNOWN = 4
#: After something took so many seconds, so many inputs travel alone; each time twice as many.
SLOW_S = 0.2
ALONE = 64
ALONE_MOST = 4096
#: The weight of the newest duration in the mean: of an input, of a chunk.
_WEIGHT, _CHUNK_WEIGHT = 0.2, 0.5


#: Whose items are there already. (A subclass may wait for what comes of the items before.)
_SIZED = (list, tuple, range, dict, set, frozenset, str, bytes)


class Pace:
    """Of one map, which may have `room` inputs without a result, and has `total` of them; None: who knows."""

    def __init__(self, room: int, total: int | None = None) -> None:
        self._room = room
        self._total = total
        self._outcomes = 0
        self._mean = 0.0
        self._bytes = 0.0
        self._spread = 0
        self._alone = 0
        self._pause = ALONE

    def ended(self, count: int, seconds: float, size: int, spread: int) -> None:
        """So many inputs came back together, after so long, with so many bytes, of so many containers."""
        self._spread = spread
        if seconds <= 0:  # it was not run
            return
        weight = (_CHUNK_WEIGHT if count > 1 else _WEIGHT) if self._outcomes else 1.0
        self._outcomes += 1
        self._mean += weight * (seconds / count - self._mean)
        self._bytes += weight * (size / count - self._bytes)
        if seconds > SLOW_S:
            self._alone, self._pause = self._pause, min(2 * self._pause, ALONE_MOST)

    @property
    def known(self) -> bool:
        """Whether the first outcomes are here."""
        return self._outcomes >= KNOWN

    def size(self, sent: int) -> int:
        """How many inputs may travel together now that so many have been sent."""
        if not (self._spread and self.known):
            return 1
        if self._alone > 0:
            self._alone -= 1
            return 1
        left = self._room if self._total is None else max(0, min(self._room, self._total - sent))
        share = left / (EACH * self._spread)
        fitting = min(
            WORK_S / self._mean, max(LITTLE_S / self._mean, share), RESULT_BYTES / max(1, self._bytes)
        )
        return max(1, min(MOST, int(fitting)))


def total(iterables: Iterable[object]) -> int | None:
    """How many inputs there will be, where all of the iterables say so, and none of them can wait."""
    lengths = [len(i) if type(i) in _SIZED else None for i in iterables]  # type: ignore[arg-type]
    known = [length for length in lengths if length is not None]
    return min(known) if known and len(known) == len(lengths) else None
