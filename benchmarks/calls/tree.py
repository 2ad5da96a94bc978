"""The processes of a peer: which they are, on which CPUs they may run, what CPU time they used."""

from __future__ import annotations

import os
from contextlib import suppress

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def processes(root: int, mark: str) -> set[int]:
    """`root`, every process whose command line or environment names `mark`, and all their descendants."""
    parents = {pid: _parent(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc")))}
    found = {pid for pid in parents if pid == root or _names(pid, mark)}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def pin(pids: set[int], cpus: set[int]) -> None:
    """Every thread of these processes; those that end meanwhile do not matter."""
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread), cpus)


def cpu_seconds(pids: set[int]) -> float:
    """User and system time of these processes, and of their children that have ended."""
    return sum(_cpu_seconds(pid) for pid in pids)


def _cpu_seconds(pid: int) -> float:
    return sum(map(int, _stat(pid)[11:15])) * _TICK_S


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) from the state (its third) on; zeros for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 50


def _names(pid: int, mark: str) -> bool:
    for name in ("cmdline", "environ"):
        with suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:
            if mark.encode() in file.read():
                return True
    return False
