"""What a program of a build says: streamed to a log, and its last lines kept for an error."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is kept for the error: lines, and bytes of one.
_LINES, _LINE = 20, 2000
_CHUNK = 64 << 10


class Output:
    """Pipes of one program, which are its own to close, and the last lines of them."""

    def __init__(self, log: Callable[[bytes], None]) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._pipes: list[int] = []
        self._lines: deque[bytes] = deque(maxlen=_LINES)
        self._rest = b""

    def watch(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._pipes.append(fd)
        self._loop.add_reader(fd, self._read, fd)

    def tail(self) -> str:
        lines = [*self._lines, *([self._rest] if self._rest else [])]
        return b"\n".join(line[-_LINE:] for line in lines).decode(errors="replace")

    def close(self) -> None:
        for fd in self._pipes:
            self._loop.remove_reader(fd)
            while self._read(fd):
                pass
            os.close(fd)
        self._pipes.clear()

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, _CHUNK)
        except OSError:
            return False
        if not data:
            self._loop.remove_reader(fd)
            return False
        self._log(data)
        *lines, self._rest = (self._rest + data)[-_CHUNK:].split(b"\n")
        self._lines.extend(lines)
        return True
