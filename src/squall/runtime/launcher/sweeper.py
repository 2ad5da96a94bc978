"""Deletes what tenants wrote. A tree may hold millions of files, so `rm` does it beside the launcher's thread.

`rm` gets the directory by descriptor: it follows no link, and nesting of any depth is no harm to it.
"""

from __future__ import annotations

import os
import shutil
from collections import deque

#: How many deletions run at once.
AT_ONCE = 2


class Sweeper:
    """A queue of trees to delete, named by a directory's descriptor and a name in it."""

    def __init__(self) -> None:
        self._rm = shutil.which("rm") or "/bin/rm"
        self._queue: deque[tuple[int, str]] = deque()
        self._running: dict[int, int] = {}  # pidfd -> pid

    def remove(self, directory: int, name: str) -> None:
        """Delete `name` in `directory` some time soon. The descriptor stays the caller's."""
        self._queue.append((os.dup(directory), name))
        self.advance()

    def advance(self) -> None:
        """Start what may start. Call it again when a descriptor of `pidfds` is readable."""
        for pidfd in [p for p in self._running if self._ended(p)]:
            os.close(pidfd)
            del self._running[pidfd]
        while self._queue and len(self._running) < AT_ONCE:
            self._start(*self._queue.popleft())

    def pidfds(self) -> list[int]:
        """Readable when a deletion has ended."""
        return list(self._running)

    def finish(self) -> None:
        """Wait for all deletions."""
        while self._running or self._queue:
            for pid in list(self._running.values()):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            self.advance()

    def _start(self, directory: int, name: str) -> None:
        os.set_inheritable(directory, True)
        path = f"/proc/self/fd/{directory}/{name}"
        pid = os.posix_spawn(self._rm, [self._rm, "-rf", "--", path], {"PATH": os.defpath})
        os.close(directory)
        self._running[os.pidfd_open(pid)] = pid

    def _ended(self, pidfd: int) -> bool:
        done = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        return done is not None
