"""What a running daemon says of itself in its state directory, and whether it is still that process.

A process is known by its pid and its start time: the kernel gives pids anew.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Process:
    """`started` is the kernel's start time in clock ticks since boot."""

    name: str
    pid: int
    started: int

    def alive(self) -> bool:
        return start_time(self.pid) == self.started

    def signal(self, number: int) -> None:
        """Silent when it is gone."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass(frozen=True)
class DaemonRecord:
    """`daemon.json`. `losses` are one line each: what this host or set-up cannot give."""

    process: Process
    protocol: int
    version: str
    driver: str
    socket: str
    losses: list[str] = field(default_factory=list)
    listen: str = ""
    gpus: str = ""
    idle_exit: float = 0.0
    allowed_host: list[str] = field(default_factory=list)
    allowed_origin: list[str] = field(default_factory=list)


def record_path(state: str) -> str:
    return os.path.join(state, "daemon.json")


def children_path(state: str) -> str:
    return os.path.join(state, "children.json")


def lock_path(state: str) -> str:
    return os.path.join(state, "daemon.lock")


def log_path(state: str, name: str) -> str:
    return os.path.join(state, "logs", f"{name}.log")


def read(state: str) -> DaemonRecord | None:
    """The daemon that runs with this state, if one does."""
    try:
        data = _load(record_path(state))
        # A newer daemon may say more; that it is newer is for the protocol version to tell.
        known = {f.name: data[f.name] for f in fields(DaemonRecord) if f.name in data}
        record = DaemonRecord(**{**known, "process": Process(**data["process"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return record if record.process.alive() else None


def write(state: str, record: DaemonRecord) -> None:
    _store(record_path(state), asdict(record))


def read_children(state: str) -> list[Process]:
    """The processes that the last daemon started and that still run."""
    try:
        found = [Process(**child) for child in _load(children_path(state))]
    except (OSError, ValueError, TypeError):
        return []
    return [child for child in found if child.alive()]


def write_children(state: str, children: list[Process]) -> None:
    _store(children_path(state), [asdict(child) for child in children])


def start_time(pid: int) -> int:
    """Of a process that lives; 0 if it does not (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])  # counted from the state, proc(5)'s field 3


def tail(path: str, lines: int, limit: int = 64 << 10) -> list[str]:
    """The last lines of a log, without empty ones."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def _load(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _store(path: str, value: object) -> None:
    """Whole or not at all."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
    os.replace(temporary, path)
