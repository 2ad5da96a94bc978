"""What is known of images, functions and containers, fed by messages. Pure: the caller tells the time.

Times are seconds of any one clock that does not go back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squall.wire.messages import BuildLog, Progress
    from squall.wire.values import FunctionProgress

#: The rate is that of the last so many seconds.
RATE_WINDOW = 10.0
#: Containers that get a colour of their own are remembered up to this number.
MAX_NAMES = 10_000


@dataclass
class Image:
    """`line` is the last one of its build; `ended` is None while it is built."""

    id: str
    begun: float
    step: int = 0
    steps: int = 0
    line: str = ""
    ended: float | None = None
    failed: bool = False


@dataclass
class Function:
    """`active` is the time from the first input to the last change."""

    now: FunctionProgress
    begun: float
    changed: float
    samples: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def done(self) -> bool:
        return not self.now.more and self.now.ended >= self.now.inputs

    def rate(self, now: float) -> float:
        """Inputs a second, lately; 0 when nobody can tell yet."""
        first = next((s for s in self.samples if s[0] >= now - RATE_WINDOW), None)
        if first is None or now - first[0] < 0.5:
            return 0.0
        return (self.now.ended - first[1]) / (now - first[0])

    def seconds_left(self, now: float) -> float | None:
        """Until all inputs that are known have ended; None when that says nothing."""
        rate = self.rate(now)
        return None if self.now.more or rate <= 0 else (self.now.inputs - self.now.ended) / rate

    def overall(self) -> float:
        """Inputs a second from the first one to the last."""
        seconds = self.changed - self.begun
        return self.now.ended / seconds if seconds > 0 else 0.0


class Model:
    def __init__(self) -> None:
        self.images: dict[str, Image] = {}
        self.functions: dict[tuple[str, str], Function] = {}
        #: The last state of each line that has no end yet: progress bars.
        self.bars: list[tuple[str, str]] = []
        #: What the platform has told last, while it may still hold.
        self.notice = ""
        self._names: dict[str, int] = {}

    def building(self, image: str, now: float) -> None:
        self.images[image] = Image(image, now)

    def build_log(self, log: BuildLog, lines: Iterable[str], now: float) -> None:
        self.notice = ""  # the wait for a node is over
        image = self.images.setdefault(log.image, Image(log.image, now))
        if log.step:
            image.step, image.steps = log.step, log.steps
        for line in lines:
            image.line = line if line.strip() else image.line

    def built(self, image: str, now: float, *, failed: bool) -> None:
        """An image that was there already is no news."""
        known = self.images.get(image)
        if known is not None and known.ended is None:
            known.ended, known.failed = now, failed
            self.notice = ""
            if not (known.step or known.line or failed):
                del self.images[image]

    def told(self, notice: str) -> None:
        self.notice = notice

    def progress(self, progress: Progress, now: float) -> None:
        self.notice = ""  # what functions wait for is part of their progress
        for each in progress.functions:
            key = (progress.app, each.function)
            function = self.functions.get(key)
            if function is None:
                function = self.functions[key] = Function(each, now, now)
            if each.ended != function.now.ended or each.inputs != function.now.inputs:
                function.changed = now
            function.now = each
            function.samples.append((now, each.ended))
            while len(function.samples) > 1 and function.samples[1][0] < now - RATE_WINDOW:
                function.samples.popleft()

    def number(self, name: str) -> int:
        """Containers count from 0 in the order in which they first print."""
        if len(self._names) < MAX_NAMES:
            return self._names.setdefault(name, len(self._names))
        return self._names.get(name, 0)

    @property
    def several(self) -> bool:
        """Whether more than one container prints or is there, so that lines need labels."""
        there = sum(f.now.starting + f.now.busy + f.now.idle for f in self.functions.values())
        return len(self._names) > 1 or there > 1

    @property
    def moving(self) -> bool:
        """Whether the picture changes by the mere passing of time."""
        return any(i.ended is None for i in self.images.values()) or any(
            not f.done for f in self.functions.values()
        )
