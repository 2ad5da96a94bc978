"""What containers print and what the platform tells, on the caller's terminal, line by line and labelled."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from squall.sdk.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squall.client.api import Watch
    from squall.sdk.ports import Port
    from squall.wire.messages import BuildLog, Logs, Notice, Progress
    from squall.wire.values import LogItem

#: What is printed for apps that start; None: nothing.
active: Printer | None = None


class Printer:
    """Writes to stdout what containers wrote there, and all else to stderr. Any thread may call it.

    `quiet` leaves out what the platform tells: builds, reasons to wait. `timestamps` puts the time of day
    before each line.
    """

    #: Whether it shows how far an app is, and wants to hear of it.
    follows = False

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
        self._lock = threading.RLock()

    def watch(self) -> Watch:
        from squall.client.api import Watch

        return Watch(self.logs, self.build_log, self.notice, self.reconnected, self.progress)

    def logs(self, logs: Logs) -> None:
        with self._lock:
            for item in logs.items:
                name = label(item)
                if item.dropped:
                    self._line(name, 2, f"[{item.dropped} lines dropped: it wrote too fast]")
                fd = 1 if item.fd == 1 else 2
                for line in self._lines.add((name, fd), item.data):
                    self._line(name, fd, line)

    def build_log(self, log: BuildLog) -> None:
        if self._quiet:
            return
        with self._lock:
            name = f"image {log.image[:9]}"
            if log.step and self._steps.get(log.image) != log.step:
                self._steps[log.image] = log.step
                self._line(name, 2, f"step {log.step} of {log.steps}")
            for line in self._lines.add((name, 2), log.data):
                self._line(name, 2, line)

    def building(self, image: str) -> None:
        """The server was asked for this image."""

    def built(self, image: str, *, failed: bool) -> None:
        """The server has answered."""

    def progress(self, progress: Progress) -> None:
        """How far an app is."""

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
        for (name, fd), line in self._lines.end():
            self._line(name, fd, line)

    def _line(self, name: str, fd: int, line: str) -> None:
        """One line of a container or a build."""
        self._write(self._out if fd == 1 else self._err, f"{name} | {line}")

    def _stamp(self) -> str:
        return time.strftime("%H:%M:%S ") if self._timestamps else ""

    def _write(self, file: TextIO, line: str) -> None:
        with self._lock:
            try:
                file.write(f"{self._stamp()}{line}\n")
                file.flush()
            except (OSError, ValueError):
                pass  # a pipe that nobody reads any more must not end the program that prints


def label(item: LogItem) -> str:
    """Function and container, short: "classify ct-1a2b"."""
    return f"{item.function} {item.container[:7]}"


@contextmanager
def enable_output(*, quiet: bool = False, timestamps: bool = False) -> Iterator[Printer]:
    """Print logs, builds and notices of the apps that start in the block; on a terminal, also how far they
    are.
    """
    global active
    from squall.client import embedded

    printer = _printer(quiet=quiet, timestamps=timestamps, within=active)
    before, active = (active, embedded.listener), printer
    embedded.listener = printer.tell
    try:
        yield printer
    finally:
        printer.end()
        active, embedded.listener = before


def _printer(*, quiet: bool, timestamps: bool, within: Printer | None) -> Printer:
    if quiet or within is not None or not sys.stderr.isatty():
        return Printer(quiet=quiet, timestamps=timestamps)
    from squall.sdk import terminal

    return terminal.printer(timestamps=timestamps)


def attach(port: Port[Any]) -> bool:
    """Let the active printer have what the server sends; False if there is none."""
    if active is None:
        return False
    port.client.watch = active.watch()
    return True


async def follow(port: Port[Any], app_id: str) -> None:
    """Have the server tell the active printer, if there is one, of an app."""
    from squall.wire.control import AppRef

    if active is not None:
        await port.request("logs.follow", AppRef(app_id))
    await refresh(port, app_id)


async def refresh(port: Port[Any], app_id: str) -> None:
    """Have the newest counts of an app shown."""
    from squall.wire.control import AppRef

    if active is not None and active.follows:
        await port.request("progress.follow", AppRef(app_id))


@contextmanager
def building(image: str) -> Iterator[None]:
    """The server is asked for an image in the block."""
    printer, failed = active, True
    if printer is not None:
        printer.building(image)
    try:
        yield
        failed = False
    finally:
        if printer is not None:
            printer.built(image, failed=failed)
