"""Deletes what tenants wrote. A tree may hold millions of files: `rm` does it, beside the launcher's thread.

`rm` gets the directory by descriptor: it follows no link, and nesting of any depth is no harm to it.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from typing import TYPE_CHECKING

from squall.runtime.linux import processes

if TYPE_CHECKING:
    from collections.abc import Callable

#: How many deletions run at once.
AT_ONCE = 2


class Sweeper:
    """A queue of trees to delete, named by a directory's descriptor and a name in it."""

    def __init__(self) -> None:
        self._rm = shutil.which("rm") or "/bin/rm"
        self._queue: deque[tuple[int, str, Callable[[bool], None] | None]] = deque()
        self._running: dict[int, Callable[[bool], None] | None] = {}  # by pidfd

    def remove(self, directory: int, name: str, done: Callable[[bool], None] | None = None) -> None:
        """Delete `name` in `directory` some time soon, then tell `done` whether it is gone.

        The descriptor stays the caller's.
        """
        self._queue.append((os.dup(directory), name, done))

    def start(self) -> list[int]:
        """Start what may start: pidfds, each of them readable when its deletion has ended."""
        started = []
        while self._queue and len(self._running) < AT_ONCE:
            directory, name, done = self._queue.popleft()
            pidfd = self._start(directory, name)
            self._running[pidfd] = done
            started.append(pidfd)
        return started

    def end(self, pidfd: int) -> None:
        """Take note of a deletion's end, waiting for it if need be."""
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        done = self._running.pop(pidfd)
        os.close(pidfd)
        if done is not None:
            done(ended is not None and ended.si_code == os.CLD_EXITED and ended.si_status == 0)

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
        return processes.pidfd_open(pid)
