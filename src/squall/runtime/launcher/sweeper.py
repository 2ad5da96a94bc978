"""Deletes what tenants wrote. A tree may hold millions of files: `rm` does it, beside the launcher's thread.

`rm` gets the directory by descriptor: it follows no link, and nesting of any depth is no harm to it.
"""

from __future__ import annotations

import os
import shutil
from collections import deque

from squall.runtime.linux import processes

#: How many deletions run at once.
AT_ONCE = 2


class Sweeper:
    """A queue of trees to delete, named by a directory's descriptor and a name in it."""

    def __init__(self) -> None:
        self._rm = shutil.which("rm") or "/bin/rm"
        self._queue: deque[tuple[int, str]] = deque()
        self._running: set[int] = set()  # pidfds

    def remove(self, directory: int, name: str) -> None:
        """Delete `name` in `directory` some time soon. The descriptor stays the caller's."""
        self._queue.append((os.dup(directory), name))

    def start(self) -> list[int]:
        """Start what may start: pidfds, each of them readable when its deletion has ended."""
        started = []
        while self._queue and len(self._running) < AT_ONCE:
            started.append(self._start(*self._queue.popleft()))
        return started

    def end(self, pidfd: int) -> None:
        """Take note of a deletion's end, waiting for it if need be."""
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        self._running.remove(pidfd)
        os.close(pidfd)

    def finish(self) -> None:
        """Wait for all deletions."""
        while self._running or self._queue:
            for pidfd in list(self._running):
                self.end(pidfd)
            self.start()

    def _start(self, directory: int, name: str) -> int:
        os.set_inheritable(directory, True)
        path = f"/proc/self/fd/{directory}/{name}"
        pid = os.posix_spawn(self._rm, [self._rm, "-rf", "--", path], {"PATH": os.defpath})
        os.close(directory)
        pidfd = processes.pidfd_open(pid)
        self._running.add(pidfd)
        return pidfd
