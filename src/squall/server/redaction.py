"""Values of secrets taken out of what containers print and raise. Pure.

A value may come in pieces: what could be its beginning is held back until more is known.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squall.wire.values import ErrorInfo, LogItem, Outcome

MASK = b"[redacted]"
#: Shorter values (yes, 1, true) are no secrets, and would tear holes into everything.
SHORTEST = 4
#: Bytes at most that are held back, so that looking costs little: of a longer value split later than here,
#: only whole lines are found.
HELD = 4096


class Redactor:
    """Of one container. `values` are those of its secrets, in clear."""

    def __init__(self, values: Iterable[str]) -> None:
        found = {value for whole in values for value in (whole, *whole.splitlines())}
        self._values = sorted(
            (value.encode(errors="surrogateescape") for value in found if len(value) >= SHORTEST),
            key=lambda value: -len(value),
        )
        self._pattern = re.compile(b"|".join(map(re.escape, self._values))) if self._values else None
        self._held: dict[int, bytes] = {}

    def item(self, item: LogItem) -> LogItem:
        """A piece of output, without what is secret and without an end that may be the beginning of it."""
        if self._pattern is None:
            return item
        data = self._held.pop(item.fd, b"") + item.data
        cut = self._cut(data)
        self._held[item.fd] = data[cut:]
        return replace(item, data=self._pattern.sub(MASK, data[:cut]))

    def rest(self) -> dict[int, bytes]:
        """What is held back when nothing follows, by descriptor."""
        held, self._held = self._held, {}
        if self._pattern is None:
            return {}
        return {fd: self._pattern.sub(MASK, data) for fd, data in held.items() if data}

    def outcome(self, outcome: Outcome) -> Outcome:
        """What is told of an error; a pickled exception is the runner's to look at."""
        if self._pattern is None or outcome.error is None:
            return outcome
        return replace(outcome, error=self._error(outcome.error))

    def text(self, text: str) -> str:
        if self._pattern is None:
            return text
        return self._pattern.sub(MASK, text.encode(errors="surrogateescape")).decode(errors="surrogateescape")

    def _error(self, error: ErrorInfo) -> ErrorInfo:
        message, traceback = self.text(error.message), self.text(error.traceback)
        return replace(error, message=message, traceback=traceback)

    def _cut(self, data: bytes) -> int:
        """Where the end begins that may be a part of a value."""
        assert self._pattern is not None
        cut = min((_beginning(data, value) for value in self._values), default=len(data))
        for match in self._pattern.finditer(data):
            if match.start() < cut < match.end():
                return match.start()
        return cut


def _beginning(data: bytes, value: bytes) -> int:
    """Where the longest end of `data` starts that is a beginning of `value`, and not all of it."""
    at = data.find(value[0], max(0, len(data) - min(len(value) - 1, HELD)))
    while at >= 0 and not value.startswith(data[at:]):
        at = data.find(value[0], at + 1)
    return len(data) if at < 0 else at
