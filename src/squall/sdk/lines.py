"""Pieces of output put together to lines, as a terminal would show them. Pure."""

from __future__ import annotations

from typing import Any

#: A line without an end is one after so many bytes.
MAX_LINE = 64 << 10


class Lines:
    """Each stream for itself. A line that was written over, as progress bars do, is its last state."""

    def __init__(self) -> None:
        self._rest: dict[Any, bytes] = {}

    def add(self, stream: Any, data: bytes) -> list[str]:
        *whole, rest = (self._rest.pop(stream, b"") + data).split(b"\n")
        rest = _last_state(rest)
        if len(rest) > MAX_LINE:
            whole.append(rest)
        elif rest:
            self._rest[stream] = rest
        return [_text(line) for line in whole]

    def end(self) -> list[tuple[Any, str]]:
        """What has no end of line, by stream."""
        rest, self._rest = self._rest, {}
        return [(stream, text) for stream, line in rest.items() if (text := _text(line)).strip()]

    def unfinished(self) -> list[tuple[Any, str]]:
        """As `end`, and it stays: the last state of each progress bar."""
        return [(stream, text) for stream, line in self._rest.items() if (text := _text(line)).strip()]


def _last_state(line: bytes) -> bytes:
    """A carriage return at the end waits for what writes over the line."""
    body = line.rstrip(b"\r")
    return line[body.rfind(b"\r") + 1 :]


def _text(line: bytes) -> str:
    return _last_state(line).rstrip(b"\r").decode("utf-8", "replace")
