"""The driver that owns the terminal: logs above, the live picture below, and local prints in between."""

from __future__ import annotations

import builtins
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len
from rich.text import Text

from squall.sdk.output import Printer
from squall.sdk.terminal import render
from squall.sdk.terminal.local import Local
from squall.sdk.terminal.model import Model
from squall.sdk.terminal.screen import Region

if TYPE_CHECKING:
    from squall.wire.messages import BuildLog, Notice, Progress

#: Seconds between two pictures, and at the least.
TURN = 0.1
PAUSE = 0.04
#: Lines of containers that a terminal gets a turn; what is more is dropped, and said.
MAX_LINES = 2000


class Live(Printer):
    """Between start and `end`, `sys.stdout` and `sys.stderr` are stand-ins, where they are the terminal."""

    follows = True

    def __init__(self, out: TextIO, err: TextIO, *, timestamps: bool = False) -> None:
        super().__init__(timestamps=timestamps, out=out, err=err)
        self._model = Model()
        self._region = Region()
        self._symbols = render.UNICODE if _can(err) else render.ASCII
        self._waiting: list[tuple[TextIO, str]] = []
        self._dropped = 0
        #: What the program has printed last without an end of line.
        self._partial = ""
        self._asking = False
        self._ended = False
        self._wake = threading.Event()
        self._pid = os.getpid()
        self._locals = (Local(self, out), Local(self, err))
        self._before = (sys.stdout, sys.stderr, builtins.input)
        self._take_over()
        self._ticker = threading.Thread(target=self._tick, name="squall-terminal", daemon=True)
        self._ticker.start()

    # ---------------------------------------------------------------------------------- what is to be told

    def building(self, image: str) -> None:
        with self._lock:
            self._model.building(image, time.monotonic())
        self._wake.set()

    def build_log(self, log: BuildLog) -> None:
        with self._lock:
            lines = self._lines.add((f"image {log.image}", 0), log.data)
            self._model.build_log(log, lines, time.monotonic())

    def built(self, image: str, *, failed: bool) -> None:
        with self._lock:
            self._model.built(image, time.monotonic(), failed=failed)
        self._wake.set()

    def progress(self, progress: Progress) -> None:
        with self._lock:
            self._model.progress(progress, time.monotonic())
        self._wake.set()

    def notice(self, notice: Notice) -> None:
        with self._lock:
            self._model.told(notice.text)
        self._wake.set()

    def end(self) -> None:
        """The last picture stays."""
        with self._lock:
            for (name, fd), line in self._lines.end():
                if fd:
                    self._line(name, fd, line)
            self._model.bars = []
            self._flush()
            if self._partial:
                self._send(self._err, "\n")
                self._partial = ""
            self._paint(final=True)
            self._ended = True
        self._give_back()
        self._wake.set()
        self._ticker.join(5)

    def _line(self, name: str, fd: int, line: str) -> None:
        file = self._out if fd == 1 else self._err
        if not self._is_terminal(file):
            super()._line(name, fd, line)
            return
        self._model.number(name)
        if len(self._waiting) >= MAX_LINES:
            self._dropped += 1
        else:
            text = render.bar(self._model, name, line)
            self._waiting.append((file, self._stamp() + self._region.styled(text)))
        self._wake.set()

    def _write(self, file: TextIO, line: str) -> None:
        if not self._is_terminal(file):
            super()._write(file, line)
            return
        with self._lock:
            self._flush()
            self._above([(file, self._stamp() + line)])
        self._wake.set()

    # ------------------------------------------------------------------------------------------ local prints

    def local(self, file: TextIO, text: str) -> None:
        """The program prints: after all that containers have printed before. The picture steps aside."""
        if os.getpid() != self._pid:  # forked: the terminal is the parent's affair
            file.write(text)
            return
        with self._lock:
            self._flush()
            self._send(self._err, self._region.erase(self._size()[0]))
            file.write(text)
            file.flush()
            self._partial = (self._partial + text).rpartition("\n")[2].rpartition("\r")[2][-4096:]
        self._wake.set()

    def _input(self, prompt: object = "", /) -> str:
        """As the builtin; there is no picture while it waits."""
        with self._lock:
            self._flush()
            self._send(self._err, self._region.erase(self._size()[0]))
            self._asking = True
        try:
            return str(self._before[2](prompt))
        finally:
            self._asking = False
            self._partial = ""

    def _take_over(self) -> None:
        if self._is_terminal(self._out):
            sys.stdout = self._locals[0]
        sys.stderr = self._locals[1]
        builtins.input = self._input

    def _give_back(self) -> None:
        """Who has replaced them meanwhile keeps what they put there."""
        if sys.stdout is self._locals[0]:
            sys.stdout = self._before[0]
        if sys.stderr is self._locals[1]:
            sys.stderr = self._before[1]
        if builtins.input == self._input:
            builtins.input = self._before[2]

    # ---------------------------------------------------------------------------------------------- painting

    def _tick(self) -> None:
        while not self._ended:
            self._wake.wait(TURN if self._model.moving else None)
            self._wake.clear()
            with self._lock:
                if not self._ended:
                    self._flush()
                    self._paint()
            time.sleep(PAUSE)

    def _paint(self, *, final: bool = False) -> None:
        if self._partial or self._asking:
            return
        self._model.bars = [(name, line) for (name, fd), line in self._lines.unfinished() if fd]
        width, height = self._size()
        lines = render.render(self._model, width - 1, time.monotonic(), self._symbols, final=final)
        if lines or final:
            self._send(
                self._err, self._region.paint(lines, width, height) + ("\n" if final and lines else "")
            )
        else:
            self._send(self._err, self._region.erase(width))

    def _flush(self) -> None:
        """Write what containers have printed."""
        waiting, self._waiting = self._waiting, []
        if self._dropped:
            note = f"[dropped {self._dropped} lines: too many for this terminal]"
            waiting.append((self._err, self._region.styled(Text(note, "yellow"))))
            self._dropped = 0
        if waiting and not self._asking:
            self._above(waiting)
        elif waiting:
            self._waiting = waiting

    def _above(self, lines: list[tuple[TextIO, str]]) -> None:
        width = self._size()[0]
        start = self._region.erase(width)
        if self._partial:  # the program's own unfinished line comes again below
            start += "\r\x1b[K" if cell_len(self._partial) < width else "\n"
        self._send(self._err, start)
        begin = 0
        for end in range(1, len(lines) + 1):
            if end == len(lines) or lines[end][0] is not lines[begin][0]:
                self._send(lines[begin][0], "".join(f"{line}\n" for _, line in lines[begin:end]))
                begin = end
        self._send(self._err, self._partial)

    def _send(self, file: TextIO, text: str) -> None:
        if text:
            try:
                file.write(text)
                file.flush()
            except (OSError, ValueError):
                pass  # the terminal is gone: the program goes on

    def _is_terminal(self, file: TextIO) -> bool:
        return file is self._err or file.isatty()

    def _size(self) -> tuple[int, int]:
        """Columns and rows, now."""
        try:
            columns, rows = os.get_terminal_size(self._err.fileno())
        except (OSError, ValueError):
            columns, rows = 0, 0
        return columns or 80, rows or 24


def _can(file: Any) -> bool:
    """Whether its encoding has the symbols."""
    try:
        (render.UNICODE.spinner + render.UNICODE.done + render.UNICODE.last).encode(file.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True
