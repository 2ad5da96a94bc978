"""The loop: start what should run, notice what died, end when told to or when nobody needs it any more.

It stands between server and launcher because the server gives up root and could not start a launcher again.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from squall.client import daemon_record
from squall.daemon import host
from squall.daemon.child import Child
from squall.exception import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.daemon.child import Program

#: How long the programs with sockets may take to listen (seconds).
BRING_UP_S = 30.0
#: How often the idle check runs (seconds); more often when the limit is short.
IDLE_CHECK_S = 60.0


class Signals:
    """SIGTERM, SIGINT, SIGUSR1 and the deaths of children, as something to wait for.

    Handlers and not a blocked mask: children start with the defaults again.
    """

    def __init__(self) -> None:
        self._read, write = os.pipe()
        for end in (self._read, write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        self.stop = False
        self.drain = False

    def wait(self, timeout: float) -> None:
        """Until a signal came or so many seconds passed (infinity: however long that takes).

        `stop` says whether it is time to end, `drain` whether it will be once what is under way has ended.
        """
        select.select([self._read], [], [], None if timeout == math.inf else max(0.0, timeout))
        with suppress(BlockingIOError):
            came = os.read(self._read, 4096)
            self.stop = self.stop or bool({signal.SIGTERM, signal.SIGINT} & set(came))
            self.drain = self.drain or signal.SIGUSR1 in came


class Supervisor:
    """`busy` tells whether somebody needs the daemon; it is asked only when `idle_exit` (seconds) is set."""

    def __init__(
        self, state: str, programs: list[Program], idle_exit: float, busy: Callable[[], bool]
    ) -> None:
        self._state = state
        self._children = [Child(program) for program in programs]
        self._idle_exit = idle_exit
        self._busy = busy
        self._signals = Signals()
        self._draining = False

    def run(self) -> None:
        """Until told to stop, or idle. Raises ServiceError when it cannot even begin."""
        try:
            self._bring_up()
            self._watch()
        finally:
            self._end()

    def _bring_up(self) -> None:
        """One after the other, each when the one before it listens."""
        for child in self._children:
            self._start(child)
            deadline = time.monotonic() + BRING_UP_S
            while not child.ready():
                if self._signals.stop:
                    return
                if child.died(time.monotonic()):
                    raise ServiceError(f"the {child.program.name} ended: {child.last_words()}")
                if time.monotonic() > deadline:
                    raise ServiceError(f"the {child.program.name} does not answer: {child.last_words()}")
                self._signals.wait(0.02)

    def _watch(self) -> None:
        idle_since = time.monotonic()
        pause = min(IDLE_CHECK_S, max(0.1, self._idle_exit / 4)) if self._idle_exit else math.inf
        check = idle_since + pause
        while not self._signals.stop:
            self._signals.wait(min(check, *(c.due or check for c in self._children)) - time.monotonic())
            self._tend()
            now = time.monotonic()
            if now < check:
                continue
            check = now + pause
            if self._busy():
                idle_since = now
            elif now - idle_since >= self._idle_exit:
                _say("nobody needs it: the daemon ends")
                return

    def _tend(self) -> None:
        """Reap, and start again."""
        now = time.monotonic()
        if self._signals.drain and not self._draining:
            self._draining = True
            self._drain()
        for child in self._children:
            if child.died(now):
                if self._draining and child.program.name == "server":
                    self._signals.stop = True
                    return
                if child.refused:
                    raise ServiceError(f"the server refuses this node: {child.last_words()}")
                _say(f"the {child.program.name} ended and starts again: {child.last_words()}")
                self._record()
            if child.process is None and child.due <= now:
                self._start(child)
                child.due = 0.0
        for pid in self._orphans():
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def _drain(self) -> None:
        """It ends with the server, which ends when what is under way has; without one, at once."""
        servers = [child for child in self._children if child.program.name == "server"]
        for server in servers:
            server.signal(signal.SIGUSR1)
        self._signals.stop = self._signals.stop or not servers

    def _start(self, child: Child) -> None:
        try:
            child.start(time.monotonic())
        except OSError as error:
            raise ServiceError(f"the {child.program.name} cannot start: {error}") from None
        self._record()
        child.go()

    def _record(self) -> None:
        daemon_record.write_children(self._state, [c.record for c in self._children if c.record])

    def _orphans(self) -> list[int]:
        return host.orphans({c.process.pid for c in self._children if c.process})

    def _end(self) -> None:
        """Server, agent, launcher: who hands out work first, who cleans the host last."""
        order = ("server", "node", "launcher")
        for child in sorted(self._children, key=lambda c: order.index(c.program.name)):
            child.stop()
        for pid in self._orphans():  # of an agent or launcher that died before it could clean up
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self._record()
        with suppress(FileNotFoundError):
            os.unlink(daemon_record.record_path(self._state))


def _say(text: str) -> None:
    print(f"squall: {text}", file=sys.stderr, flush=True)
