"""The few file operations that cgroups need: a seam, because one host has only one version of cgroupfs.

All methods raise `OSError` as the kernel does.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

#: Set on a cgroup by whoever hands it over (systemd's `Delegate=`, or a user's own hand).
DELEGATION_MARKS = ("trusted.delegate", "user.delegate")


class Files(Protocol):
    """cgroupfs, the real one or a double of it."""

    def read(self, path: Path) -> str: ...

    def write(self, path: Path, text: str) -> None: ...

    def mkdir(self, path: Path) -> None: ...

    def rmdir(self, path: Path) -> None: ...

    def exists(self, path: Path) -> bool: ...

    def folders(self, path: Path) -> list[str]:
        """The names of the folders in a folder, links to folders included."""
        ...

    def resolve(self, path: Path) -> Path: ...

    def is_delegated(self, path: Path) -> bool: ...

    def own_cgroup(self) -> str:
        """The text of /proc/self/cgroup."""
        ...

    def kill_members(self, group: Path) -> bool:
        """SIGKILL to each member of a group. False if there was none."""
        ...


class HostFiles:
    """The host's own cgroupfs."""

    def read(self, path: Path) -> str:
        return path.read_text("ascii")

    def write(self, path: Path, text: str) -> None:
        # One write(2): cgroupfs takes each as a command of its own, and never creates files.
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def mkdir(self, path: Path) -> None:
        path.mkdir()

    def rmdir(self, path: Path) -> None:
        path.rmdir()

    def exists(self, path: Path) -> bool:
        return path.exists()

    def folders(self, path: Path) -> list[str]:
        with os.scandir(path) as entries:
            return sorted(e.name for e in entries if e.is_dir())

    def resolve(self, path: Path) -> Path:
        return path.resolve()

    def is_delegated(self, path: Path) -> bool:
        for mark in DELEGATION_MARKS:
            with suppress(OSError):
                if os.getxattr(path, mark) == b"1":
                    return True
        return False

    def own_cgroup(self) -> str:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            return file.read()

    def kill_members(self, group: Path) -> bool:
        # A pid read from a list may be somebody else's a moment later: hold each process by a pidfd, look
        # whether it still is a member, and only then signal it.
        held: dict[str, int] = {}
        try:
            for pid in self.read(group / "cgroup.procs").split():
                with suppress(ProcessLookupError):
                    held[pid] = os.pidfd_open(int(pid))
            members = set(self.read(group / "cgroup.procs").split())
            for pid in members & held.keys():
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(held[pid], signal.SIGKILL)
        finally:
            for fd in held.values():
                os.close(fd)
        return bool(members)
