"""The bottom of a terminal, whose lines are painted over. Makes the bytes; writes nothing."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text


class Region:
    """The cursor is at the end of its last line, or, with none, where text goes on."""

    def __init__(self) -> None:
        self._console = Console(file=StringIO(), force_terminal=True, highlight=False, legacy_windows=False)
        self._painted: list[int] = []

    def styled(self, text: Text) -> str:
        """With the colours that this terminal has (NO_COLOR: none)."""
        with self._console.capture() as capture:
            self._console.print(text, end="", soft_wrap=True, markup=False, emoji=False)
        return capture.get()

    def erase(self, width: int) -> str:
        """The cursor goes to where the region began, also if the terminal is narrower than it was then."""
        if not self._painted:
            return ""
        rows = sum(max(1, -(-cells // width)) for cells in self._painted)
        self._painted = []
        up = f"\x1b[{rows - 1}A" if rows > 1 else ""
        return f"\r{up}\x1b[J"

    def paint(self, lines: Sequence[Text], width: int, height: int) -> str:
        """Over what was there. The last lines, if there are more than fit."""
        erase = self.erase(width)
        shown = lines[-max(1, height - 1) :]
        self._painted = [line.cell_len for line in shown]
        return erase + "\n".join(map(self.styled, shown))
