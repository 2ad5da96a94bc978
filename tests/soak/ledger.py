"""What was asked of Squall, and what came of it."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """`asked` and `right` count inputs (of generators: values) by kind of call.

    `told`: ended in an error that the promise allows, and says so. `faults`: what must not be.
    """

    asked: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    #: Spawned calls that were acknowledged, and what each was given: they must be on disk.
    spawned: dict[str, int] = field(default_factory=dict)
    #: How many calls have ended, well or not.
    ended: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, kind: str, count: int) -> None:
        with self._lock:
            self.asked[kind] += count

    def accept(self, call: str, x: int) -> None:
        """`spawn` has returned: whatever is killed from now on, the call is not lost."""
        with self._lock:
            self.spawned[call] = x

    def check(self, kind: str, expected: list[int], got: list[int], *, cut: bool = False) -> None:
        """The answers to what was asked, in order; `cut`: the rest was told to be lost (a generator's)."""
        lost = [] if cut else sorted(set(expected) - set(got))
        twice = sorted(x for x, n in Counter(got).items() if n > 1)
        wrong = got != expected[: len(got)]
        with self._lock:
            self.ended += 1
            self.right[kind] += len(got)
            self.told[kind] += len(expected) - len(got) if cut else 0
            if lost or twice or wrong:
                what = f"lost {lost}, twice {twice}" if lost or twice else "in another order"
                self.faults.append(f"{kind}: {what} of {expected[:1]}..{expected[-1:]}")

    def excuse(self, kind: str, count: int, error: BaseException) -> None:
        """An error came instead. Only this one is allowed: three containers of the input were killed."""
        with self._lock:
            if "it ran 3 times and never ended" in str(error):
                self.told[kind] += count
            else:
                self.faults.append(f"{kind}: {type(error).__name__}: {error}")

    def fault(self, text: str) -> None:
        with self._lock:
            self.faults.append(text)
