"""What an earlier launcher left and nobody keeps: found by records and names of ours, then removed.

Its mounts need nothing: they were in its own mount namespace, or in those of the containers.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

from squall.runtime.launcher.workspaces import boot_id
from squall.runtime.linux import processes

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from squall.runtime.launcher.sweeper import Sweeper

KILL_TIMEOUT_S = 10.0


def kill_zones(records: Path, kept: Collection[str] = ()) -> None:
    """Kill the zones on record, but those of the records named `kept`; their containers die with them."""
    for path in records.iterdir():
        if path.name in kept:
            continue
        pidfd = _recorded_zone(path)
        if pidfd is not None:
            processes.send_signal(pidfd, signal.SIGKILL)
            processes.wait_ended(pidfd, KILL_TIMEOUT_S)
            os.close(pidfd)
        path.unlink()


def sweep(directory: Path, sweeper: Sweeper, kept: Collection[str] = ()) -> None:
    """Delete everything in a directory of ours but what is `kept`."""
    fd = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    for name in set(os.listdir(directory)).difference(kept):
        gone = f".{name}-{time.monotonic_ns()}"  # out of the way of new ones of that name
        os.rename(name, gone, src_dir_fd=fd, dst_dir_fd=fd)
        sweeper.remove(fd, gone)
    os.close(fd)


def _recorded_zone(path: Path) -> int | None:
    """A pidfd of the recorded process, if it is still the same one."""
    try:
        noted = json.loads(path.read_text("utf-8"))
        pid, started, boot = noted["pid"], noted["start_time"], noted["boot_id"]
    except (ValueError, KeyError, TypeError):
        return None
    if boot != boot_id():
        return None
    try:
        pidfd = processes.pidfd_open(pid)
    except OSError:
        return None
    if processes.start_time(pid) != started:
        os.close(pidfd)
        return None
    return pidfd
