"""The processes of a running daemon, by what they are."""

from __future__ import annotations

import os
from pathlib import Path

from squall.client import daemon_record

#: From the outside in.
PARTS = ("supervisor", "server", "node", "launcher", "keeper", "zone", "runner")


class Parts:
    """Of the daemon with this state directory."""

    def __init__(self, state: str) -> None:
        self.state = state

    def find(self, part: str) -> list[int]:
        if part == "supervisor":
            record = daemon_record.read(self.state)
            return [record.process.pid] if record is not None else []
        if part in {"server", "node", "launcher"}:
            children = {c.name: c.pid for c in daemon_record.read_children(self.state)}
            return [children[part]] if part in children else []
        if part in {"zone", "keeper"}:
            return [p for p in _processes() if _title(p).startswith(f"squall-{part}") and self._is_ours(p)]
        return self._runners()

    def _runners(self) -> list[int]:
        """The program in each container, where it has begun."""
        containers = Path(self.state, "node", "containers")
        marks = {f"SQUALL_TASK_ID={path.name}\0".encode() for path in containers.glob("ct-*")}
        found = []
        for pid in _processes():
            environ = read(pid, "environ") + b"\0"
            if any(mark in environ for mark in marks) and b"squall/runner" in read(pid, "cmdline"):
                found.append(pid)
        return found

    def _is_ours(self, pid: int) -> bool:
        """Zones and keepers show no command line; their environment is that of the daemon."""
        return f"SQUALL_STATE={self.state}\0".encode() in read(pid, "environ") + b"\0"


def _processes() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def _title(pid: int) -> str:
    return read(pid, "comm").decode(errors="replace").strip()


def read(pid: int, name: str) -> bytes:
    """A file of the process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
