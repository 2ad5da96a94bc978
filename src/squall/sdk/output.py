"""What containers print and what the platform tells, on the caller's terminal, line by line and labelled."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squall.client.api import Watch
    from squall.sdk.ports import Port
    from squall.wire.messages import BuildLog, Logs, Notice
    from squall.wire.values import LogItem

#: What is printed for apps that start; None: nothing.
active: Printer | None = None


class Lines:
    """Puts pieces of output together to whole lines, each stream for itself. Pure."""

    def __init__(self) -> None:
        self._rest: dict[Any, bytes] = {}

    def add(self, stream: Any, data: bytes) -> list[str]:
        *whole, rest = (self._rest.pop(stream, b"") + data).split(b"\n")
        if rest:
            self._rest[stream] = rest
        return [_text(line) for line in whole]

    def end(self) -> list[tuple[Any, str]]:
        """What has no end of line, by stream."""
        rest, self._rest = self._rest, {}
        return [(stream, _text(line)) for stream, line in rest.items()]


class Printer:
    """Writes to stdout what containers wrote there, and all else to stderr. Any thread may call it.

    `quiet` leaves out what the platform tells: builds, reasons to wait. `timestamps` puts the time of day
    before each line.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        timestamps: bool = False,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        self._quiet = quiet
        self._timestamps = timestamps
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._lines = Lines()
        self._steps: dict[str, int] = {}
        self._lock = threading.Lock()

    def watch(self) -> Watch:
        from squall.client.api import Watch

        return Watch(self.logs, self.build_log, self.notice, self.reconnected)

    def logs(self, logs: Logs) -> None:
        for item in logs.items:
            if item.dropped:
                self._write(self._err, f"{label(item)} | [{item.dropped} lines dropped: it wrote too fast]")
            stream = (label(item), 1 if item.fd == 1 else 2)
            for line in self._lines.add(stream, item.data):
                self._write(*self._labelled(stream, line))

    def build_log(self, log: BuildLog) -> None:
        if self._quiet:
            return
        name = f"image {log.image[:9]}"
        if log.step and self._steps.get(log.image) != log.step:
            self._steps[log.image] = log.step
            self._write(self._err, f"{name} | step {log.step} of {log.steps}")
        for line in self._lines.add((name, 2), log.data):
            self._write(*self._labelled((name, 2), line))

    def notice(self, notice: Notice) -> None:
        self.tell(notice.text)

    def reconnected(self) -> None:
        self.tell("connected to the server again")

    def tell(self, text: str) -> None:
        if not self._quiet:
            self.show(f"squall: {text}")

    def show(self, text: str) -> None:
        """What was asked for goes out, quiet or not."""
        self._write(self._err, text)

    def end(self) -> None:
        """Print what waits for the end of its line."""
        for stream, line in self._lines.end():
            self._write(*self._labelled(stream, line))

    def _labelled(self, stream: tuple[str, int], line: str) -> tuple[TextIO, str]:
        return self._out if stream[1] == 1 else self._err, f"{stream[0]} | {line}"

    def _write(self, file: TextIO, line: str) -> None:
        stamp = time.strftime("%H:%M:%S ") if self._timestamps else ""
        with self._lock:
            try:
                file.write(f"{stamp}{line}\n")
                file.flush()
            except (OSError, ValueError):
                pass  # a pipe that nobody reads any more must not end the program that prints


def label(item: LogItem) -> str:
    """Function and container, short: "classify ct-1a2b"."""
    return f"{item.function} {item.container[:7]}"


@contextmanager
def enable_output(*, quiet: bool = False, timestamps: bool = False) -> Iterator[Printer]:
    """Print logs, builds and notices of the apps that start in the block."""
    global active
    from squall.client import embedded

    before, active = (active, embedded.listener), Printer(quiet=quiet, timestamps=timestamps)
    embedded.listener = active.tell
    try:
        yield active
    finally:
        active.end()
        active, embedded.listener = before


def attach(port: Port[Any]) -> bool:
    """Let the active printer have what the server sends; False if there is none."""
    if active is None:
        return False
    port.client.watch = active.watch()
    return True


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")
