"""One process of the supervisor's: how to start it, when it is ready, when to start it again."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field

from squall.client import daemon_record

#: Pauses before a start after a death: doubled from the first to the last (seconds).
FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 30.0
#: Who lived longer than this starts without a pause (seconds).
HEALTHY_S = 10.0
#: Exit status of a node that its server will not have: to start it again changes nothing.
REFUSED = 77

#: Runs a program once a line came; without one, because the supervisor died, it never does.
_GATE = ("/bin/sh", "-c", 'read -r _ && exec "$@" </dev/null', "squall")

#: How the programs begin a line that says why they cannot run.
_PREFIX = re.compile(r"(error|squall( [a-z]+)?): ")


@dataclass(frozen=True)
class Program:
    """What to run. It is ready when its socket is there and, with `knock`, answers (at once, without one)."""

    name: str
    command: tuple[str, ...]
    log: str
    environ: dict[str, str] = field(default_factory=dict)
    socket: str = ""
    knock: bool = True
    #: How long SIGTERM may take to work (seconds).
    patience: float = 3.0


class Child:
    """Times are those of the monotonic clock, given by the caller."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.record: daemon_record.Process | None = None
        self.due = 0.0
        self.refused = False
        self._pause = FIRST_PAUSE_S
        self._since = 0.0

    def start(self, now: float) -> None:
        """Make the process; it waits for `go`, so that none runs that no record names. Raises OSError."""
        program = self.program
        with suppress(FileNotFoundError):
            if program.socket:
                os.unlink(program.socket)  # an old one would make it look ready
        with open(program.log, "ab") as log:
            self.process = subprocess.Popen(
                (*_GATE, *program.command),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                env=program.environ,
                umask=0o022,  # containers read some of it; the directories above keep others out
                start_new_session=True,  # Ctrl-C in a terminal is for the supervisor, which ends all in order
            )
        pid = self.process.pid
        self.record = daemon_record.Process(program.name, pid, daemon_record.start_time(pid))
        self._since = now

    def go(self) -> None:
        """Let it run: it is recorded."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.write(b"\n")
                self.process.stdin.close()

    def ready(self) -> bool:
        if not self.program.socket:
            return True
        if not self.program.knock:
            return os.path.exists(self.program.socket)
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.settimeout(1)
                sock.connect(self.program.socket)
            except OSError:
                return False
        return True

    def died(self, now: float) -> bool:
        """Whether it ended since it was started; then the next start is due after a pause."""
        if self.process is None or self.process.poll() is None:
            return False
        self.refused = self.process.returncode == REFUSED
        self.process = self.record = None
        self._pause = FIRST_PAUSE_S if now - self._since > HEALTHY_S else self._pause
        self.due = now + self._pause
        self._pause = min(2 * self._pause, LAST_PAUSE_S)
        return True

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def stop(self) -> None:
        """End it: as it wishes for a while, then surely."""
        process = self.process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(self.program.patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.process = self.record = None

    def last_words(self) -> str:
        lines = daemon_record.tail(self.program.log, 1)
        return _PREFIX.sub("", lines[0]) if lines else "it says nothing"
