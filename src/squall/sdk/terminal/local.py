"""A stand-in for sys.stdout or sys.stderr, through which the program's own prints reach the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squall.sdk.terminal.live import Live


class Local:
    """Writes by way of the driver; all else is the stream's own."""

    def __init__(self, live: Live, file: TextIO) -> None:
        self._live = live
        self._file = file

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # click finds out by this whether a stream takes text
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._live.local(self._file, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
