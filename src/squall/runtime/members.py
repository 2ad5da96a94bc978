"""The processes that belong to a container without a namespace or a control group: found in /proc.

One belongs if it has the container's mark in its environment (inherited, also by daemons), is in the session
that the main process began, or descends from one that belongs. A program that wants to get away can.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

#: A process may fork while others are killed, and takes a moment to die.
KILL_ROUNDS, KILL_PAUSE_S = 500, 0.002


class Process(NamedTuple):
    """From /proc/PID/stat (proc(5)). `cpu_seconds` includes children that have ended."""

    pid: int
    parent: int
    session: int
    is_zombie: bool
    cpu_seconds: float
    memory_bytes: int


def read(pid: int) -> Process | None:
    """None if there is no such process, or none that we may see."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return parse(pid, file.read())
    except (OSError, IndexError, ValueError):
        return None


def parse(pid: int, stat: str) -> Process:
    # The second field is a name in brackets, which may hold anything. The rest begins with the third field.
    fields = stat.rpartition(")")[2].split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        is_zombie=fields[0] in "ZX",
        cpu_seconds=sum(int(f) for f in fields[11:15]) / _TICKS,
        memory_bytes=int(fields[21]) * _PAGE,
    )


def find(mark: str, main: int | None) -> list[Process]:
    """The living members of the container whose processes carry `mark` (`NAME=value`) in their environment.

    `main` is its main process, as long as nobody has waited for that.
    """
    alive = [p for p in _all() if not p.is_zombie]
    members = {p.pid for p in alive if main in {p.pid, p.session} or _has_mark(p.pid, mark)}
    family = _with_descendants(members, alive)
    return [p for p in alive if p.pid in family]


def kill_all(mark: str, main: int | None) -> None:
    """SIGKILL to all members until there are none; gives up after a second. Blocks."""
    for _ in range(KILL_ROUNDS):
        members = find(mark, main)
        if not members:
            return
        for process in members:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(KILL_PAUSE_S)


def _with_descendants(members: set[int], processes: Iterable[Process]) -> set[int]:
    found = set(members)
    while True:
        more = {p.pid for p in processes if p.parent in found} - found
        if not more:
            return found
        found |= more


def _all() -> list[Process]:
    read_ones = (read(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in read_ones if process is not None]


def _has_mark(pid: int, mark: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark.encode() in file.read().split(b"\0")
    except OSError:
        return False
