"""A program on a pseudo-terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE = 60.0


class Pseudo:
    """Standard error (and the others, unless `stdout` is given) is a terminal. Use it as a context manager.

    `moments` says when each piece of `output` came, in seconds since the start.
    """

    def __init__(
        self,
        command: list[str],
        *,
        environment: Mapping[str, str],
        cwd: str,
        size: tuple[int, int] = (80, 24),
        stdout: str = "",
    ) -> None:
        self.moments: list[tuple[float, bytes]] = []
        self._begun = time.monotonic()
        self._code: int | None = None
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            _become(command, environment, cwd, size, stdout)

    def __enter__(self) -> Pseudo:
        return self

    def __exit__(self, *_: object) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    @property
    def output(self) -> str:
        return b"".join(data for _, data in self.moments).decode("utf-8", "replace")

    def until(self, there: Callable[[str], bool]) -> None:
        """Read until the output is so. Raises AssertionError, with the output, when it never is."""
        deadline = time.monotonic() + PATIENCE
        while not there(self.output):
            assert time.monotonic() < deadline, self.output
            assert self._read(), self.output

    def end(self, patience: float = PATIENCE) -> int:
        """Read to the end; the exit status."""
        deadline = time.monotonic() + patience
        while self._read():
            assert time.monotonic() < deadline, self.output
        self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def echoes(self) -> bool:
        """Whether the terminal echoes what is typed: not in raw mode."""
        flags: int = termios.tcgetattr(self._fd)[3]
        return bool(flags & termios.ECHO)

    def _read(self) -> bool:
        """A piece, if one comes within a while. False at the end."""
        if not select.select([self._fd], [], [], 0.5)[0]:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # Linux's way to say that nobody has the other side open
            return False
        self.moments.append((time.monotonic() - self._begun, data))
        return bool(data)


def _become(
    command: list[str], environment: Mapping[str, str], cwd: str, size: tuple[int, int], stdout: str
) -> None:
    try:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        if stdout:
            os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT, 0o600), 1)
        os.chdir(cwd)
        os.execve(command[0], command, environment)
    except OSError as error:
        print(error, file=sys.stderr)
    os._exit(127)
