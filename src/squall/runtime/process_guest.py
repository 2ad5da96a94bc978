"""A guest where nothing is isolated: one more process of the agent's own user, in a session of its own."""

from __future__ import annotations

import asyncio
import os
import signal as signals
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from squall.runtime import terminals
from squall.runtime.driver import DriverError, Guest
from squall.runtime.spec import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squall.runtime.spec import Command

#: From SIGHUP to SIGKILL (seconds).
HANG_UP_S = 5.0

#: Makes the terminal that it has as stdin its own, then becomes the program.
_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    sys.exit(f"cannot run {sys.argv[1]!r}: {error.strerror}")
"""


class ProcessGuest(Guest):
    """Make it with `started`."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: int, stdout: int, stderr: int) -> None:
        super().__init__(stdin, stdout, stderr)
        self._process = process
        self._lock = threading.Lock()
        self._ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        threading.Thread(target=self._watch, args=(asyncio.get_running_loop(),), daemon=True).start()

    @classmethod
    def started(cls, command: Command, env: Mapping[str, str], cwd: str) -> ProcessGuest:
        """Run it with just this environment. Raises `DriverError`."""
        argv = command.argv
        try:
            inside, outside = _terminal(*command.terminal) if command.terminal else _pipes()
        except OSError as error:
            raise DriverError(f"this machine has no terminal or pipe left to give: {error}") from error
        if command.terminal:
            argv = (sys.executable, "-I", "-S", "-c", _TAKE_TERMINAL, *argv)
        try:
            process = subprocess.Popen(
                argv,
                stdin=inside[0],
                stdout=inside[1],
                stderr=inside[2],
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            _close(outside)
            raise DriverError(f"cannot run {command.argv[0]!r}: {error}") from error
        finally:
            _close(inside)
        for fd in outside:
            os.set_blocking(fd, False)
        return cls(process, *(outside if len(outside) == 3 else (outside[0], outside[0], -1)))

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._ended)

    def close_stdin(self) -> None:
        if self.stdin not in {-1, self.stdout}:
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        _close([fd for fd in (self.stdin, self.stdout, self.stderr) if fd >= 0])
        self.stdin = self.stdout = self.stderr = -1
        if not self._ended.done():
            self._signal(signals.SIGHUP)
            asyncio.get_running_loop().call_later(HANG_UP_S, self._signal, signals.SIGKILL)

    def _signal(self, number: int) -> None:
        with self._lock, suppress(ProcessLookupError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, number)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs in a thread of its own."""
        pid = self._process.pid
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        # Not reaped yet: its group cannot be somebody else's.
        with self._lock:
            os.killpg(pid, signals.SIGKILL)
            code = self._process.wait()
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            status = ExitStatus(code=code) if code >= 0 else ExitStatus(signal=-code)
            loop.call_soon_threadsafe(self._ended.set_result, status)


def _terminal(rows: int, columns: int) -> tuple[list[int], list[int]]:
    """By /dev/ptmx, which is everybody's; hosts mostly keep that of /dev/pts itself to nobody."""
    master, slave = os.openpty()
    terminals.resize(master, rows, columns)
    return [slave] * 3, [master]


def _pipes() -> tuple[list[int], list[int]]:
    (stdin, write), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
    return [stdin, stdout, stderr], [write, out, err]


def _close(descriptors: list[int]) -> None:
    for fd in set(descriptors):
        os.close(fd)
