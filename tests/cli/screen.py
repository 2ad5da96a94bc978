"""A terminal in memory: what somebody would see after these bytes. Only what Squall sends is understood."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """`lines` have the colours taken out, `styled` has them. Raises ValueError at an unknown sequence."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._rows: list[list[tuple[str, str]]] = [[]]
        self._row = self._column = 0
        self._style = ""

    def feed(self, text: str) -> None:
        position = 0
        while position < len(text):
            token = _TOKEN.match(text, position)
            if token is None:
                raise ValueError(f"unknown: {text[position : position + 20]!r}")
            position = token.end()
            if token[4]:
                self._put(token[4])
            elif token[3]:
                self._control(token[3])
            else:
                self._escape(token[1], token[2])

    @property
    def lines(self) -> list[str]:
        return ["".join(cell for cell, _ in row).rstrip() for row in self._rows]

    @property
    def styled(self) -> list[str]:
        return [
            "".join(f"{style}{cell}\x1b[0m" if style else cell for cell, style in row) for row in self._rows
        ]

    def _put(self, text: str) -> None:
        for character in text:
            if self._column == self._width:
                self._control("\r")
                self._control("\n")
            row = self._rows[self._row]
            row += [(" ", "")] * (self._column + 1 - len(row))
            row[self._column] = (character, self._style)
            self._column += 1

    def _control(self, character: str) -> None:
        if character == "\r":
            self._column = 0
            return
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append([])

    def _escape(self, arguments: str, command: str) -> None:
        if command == "m":
            self._style = "" if arguments in ("", "0") else f"{self._style}\x1b[{arguments}m"
        elif command == "A":
            self._row = max(0, self._row - int(arguments or 1))
        elif command in ("J", "K") and arguments in ("", "0"):
            del self._rows[self._row][self._column :]
            if command == "J":
                del self._rows[self._row + 1 :]
        else:
            raise ValueError(f"unknown: ESC [ {arguments} {command}")
