"""A double of cgroup v2's file system that keeps the kernel's rules (kernel/cgroup, mm/memcontrol.c).

It has processes that fork, use memory and CPU and die, so that limits and counters can be seen to work.
Times do not pass: a killed process is gone after `dying` looks at its group.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CORE_FILES = {"cgroup.procs", "cgroup.controllers", "cgroup.subtree_control", "cpu.stat"}
CHILD_FILES = {"cgroup.type", "cgroup.events"}
CONTROLLER_FILES = {
    "cpu": {"cpu.weight", "cpu.max"},
    "memory": {"memory.max", "memory.low", "memory.current", "memory.events", "memory.oom.group"},
    "pids": {"pids.max", "pids.current", "pids.events"},
}
READ_ONLY = {
    *("cgroup.controllers", "cgroup.events", "cpu.stat", "memory.current", "memory.events", "memory.peak"),
    *("pids.current", "pids.events"),
}


def fail(code: int) -> OSError:
    return OSError(code, os.strerror(code))


@dataclass
class Process:
    pid: int
    memory: int = 0


@dataclass
class Group:
    parent: Group | None = None
    children: dict[str, Group] = field(default_factory=dict)
    processes: dict[int, Process] = field(default_factory=dict)
    subtree: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)
    cpu_usec: int = 0
    peak: int = 0
    oom_kills: int = 0
    pids_max_hits: int = 0
    dying: int = 0

    def tree(self) -> Iterator[Group]:
        yield self
        for child in self.children.values():
            yield from child.tree()

    def upwards(self) -> Iterator[Group]:
        yield self
        if self.parent:
            yield from self.parent.upwards()

    def memory(self) -> int:
        return sum(p.memory for g in self.tree() for p in g.processes.values())

    def count(self) -> int:
        return sum(len(g.processes) for g in self.tree())

    def limit(self, file: str) -> float:
        value = self.values.get(file, "max")
        return float("inf") if value == "max" else int(value)


class Cgroupfs:
    """`own` is the group of the caller, who has pid 1. `real_root=False`: the root of a cgroup namespace."""

    def __init__(
        self,
        root: Path,
        *,
        controllers: tuple[str, ...] = ("cpu", "memory", "pids"),
        own: str = "/",
        real_root: bool = True,
        peak: bool = True,
        kill: bool = True,
        swap: bool = True,
        dying: int = 0,
    ) -> None:
        self.root_path = root
        self.top = Group()
        self.controllers = set(controllers)
        self.real_root = real_root
        self.dying = dying
        self.delegated: set[Path] = set()
        self.read_only = False
        self.extra = {"memory.peak"} if peak else set()
        self.extra |= {"memory.swap.max"} if swap else set()
        self.child_files = CHILD_FILES | ({"cgroup.kill"} if kill else set())
        self._next_pid = 100
        self.own = own
        group = self.top
        for name in own.strip("/").split("/"):
            if name:
                group = group.children.setdefault(name, Group(group))
        group.processes[1] = Process(1)

    # What processes do.

    def spawn(self, group: Path | None = None) -> int:
        return self._spawn(self._group(group) if group else self.top)

    def fork(self, pid: int) -> int:
        return self._spawn(self.group_of(pid))

    def _spawn(self, group: Group) -> int:
        for above in group.upwards():
            if above.count() + 1 > above.limit("pids.max"):
                group.pids_max_hits += 1
                raise fail(errno.EAGAIN)
        self._next_pid += 1
        group.processes[self._next_pid] = Process(self._next_pid)
        return self._next_pid

    def charge(self, pid: int, size: int) -> bool:
        """Use memory. False if the kernel killed the process for it."""
        group = self.group_of(pid)
        group.processes[pid].memory += size
        for above in group.upwards():
            while above.memory() > above.limit("memory.max"):
                self._oom(above)
            above.peak = max(above.peak, above.memory())
        return pid in group.processes

    def burn(self, pid: int, usec: int) -> None:
        for group in self.group_of(pid).upwards():
            group.cpu_usec += usec

    def exit(self, pid: int) -> None:
        del self.group_of(pid).processes[pid]

    def group_of(self, pid: int) -> Group:
        return next(g for g in self.top.tree() if pid in g.processes)

    def _oom(self, domain: Group) -> None:
        victim = max((p for g in domain.tree() for p in g.processes.values()), key=lambda p: p.memory)
        group = self.group_of(victim.pid)
        as_a_whole = [g for g in group.upwards() if g.values.get("memory.oom.group") == "1"]
        doomed = list(as_a_whole[-1].tree()) if as_a_whole else []
        pids = [pid for g in doomed for pid in g.processes] or [victim.pid]
        for pid in pids:
            for above in self.group_of(pid).upwards():
                above.oom_kills += 1
            self.exit(pid)

    # Files.

    def read(self, path: Path) -> str:
        group, name = self._file(path)
        if name == "cgroup.kill":
            raise fail(errno.EACCES)
        return self._content(group, name)

    def write(self, path: Path, text: str) -> None:
        group, name = self._file(path)
        if self.read_only:
            raise fail(errno.EROFS)
        if name in READ_ONLY:
            raise fail(errno.EACCES)
        if name == "cgroup.procs":
            self._move(group, text)
        elif name == "cgroup.subtree_control":
            self._control(group, text)
        elif name == "cgroup.kill":
            self._kill(group, text)
        else:
            group.values[name] = _checked(name, text.strip())

    def mkdir(self, path: Path) -> None:
        parent = self._group(path.parent)
        if self.read_only:
            raise fail(errno.EROFS)
        if path.name in parent.children or path.name in self._files(parent):
            raise fail(errno.EEXIST)
        parent.children[path.name] = Group(parent)

    def rmdir(self, path: Path) -> None:
        group = self._group(path)
        if self.read_only:
            raise fail(errno.EROFS)
        if group.dying:
            group.dying -= 1
            raise fail(errno.EBUSY)
        if group.children or group.processes or group.parent is None:
            raise fail(errno.EBUSY)
        del group.parent.children[path.name]

    def exists(self, path: Path) -> bool:
        try:
            if path == self.root_path or path.name in self._group(path.parent).children:
                return True
            self._file(path)
        except OSError:
            return False
        return True

    def folders(self, path: Path) -> list[str]:
        return sorted(self._group(path).children)

    def resolve(self, path: Path) -> Path:
        return path

    def is_delegated(self, path: Path) -> bool:
        return path in self.delegated

    def own_cgroup(self) -> str:
        group = self.group_of(1)
        names: list[str] = []
        while group.parent:
            names.append(next(n for n, g in group.parent.children.items() if g is group))
            group = group.parent
        return f"0::/{'/'.join(reversed(names))}\n"

    def kill_members(self, group: Path) -> bool:
        members = list(self._group(group).processes)
        for pid in members:
            self.exit(pid)
        return bool(members)

    def _group(self, path: Path) -> Group:
        group = self.top
        for name in path.relative_to(self.root_path).parts:
            if name not in group.children:
                raise fail(errno.ENOENT)
            group = group.children[name]
        return group

    def _available(self, group: Group) -> set[str]:
        return self.controllers if group.parent is None else group.parent.subtree

    def _files(self, group: Group) -> set[str]:
        if group.parent is None:
            return CORE_FILES if self.real_root else CORE_FILES | CHILD_FILES
        files = CORE_FILES | self.child_files
        for controller in group.parent.subtree:
            files |= CONTROLLER_FILES[controller]
            files |= {f for f in self.extra if f.startswith(controller)}
        return files

    def _file(self, path: Path) -> tuple[Group, str]:
        group = self._group(path.parent)
        if path.name not in self._files(group):
            raise fail(errno.ENOENT)
        return group, path.name

    def _content(self, group: Group, name: str) -> str:
        computed = {
            "cgroup.procs": "".join(f"{pid}\n" for pid in group.processes),
            "cgroup.controllers": " ".join(sorted(self._available(group))) + "\n",
            "cgroup.subtree_control": " ".join(sorted(group.subtree)) + "\n",
            "cgroup.events": f"populated {int(group.count() > 0)}\nfrozen 0\n",
            "cgroup.type": "domain\n",
            "cpu.stat": f"usage_usec {group.cpu_usec}\nuser_usec {group.cpu_usec}\nsystem_usec 0\n",
            "memory.current": f"{group.memory()}\n",
            "memory.peak": f"{group.peak}\n",
            "memory.events": f"low 0\nhigh 0\nmax 0\noom 0\noom_kill {group.oom_kills}\noom_group_kill 0\n",
            "pids.current": f"{group.count()}\n",
            "pids.events": f"max {group.pids_max_hits}\n",
        }
        return computed[name] if name in computed else group.values.get(name, "max") + "\n"

    def _move(self, group: Group, text: str) -> None:
        if not text.strip().isdigit():
            raise fail(errno.EINVAL)
        pid = int(text)
        source = next((g for g in self.top.tree() if pid in g.processes), None)
        if source is None:
            raise fail(errno.ESRCH)
        if group.subtree and (group.parent or not self.real_root):  # no internal processes
            raise fail(errno.EBUSY)
        group.processes[pid] = source.processes.pop(pid)

    def _control(self, group: Group, text: str) -> None:
        for token in text.split():
            sign, name = token[0], token[1:]
            if sign not in "+-" or name not in CONTROLLER_FILES:
                raise fail(errno.EINVAL)
            if sign == "+":
                self._hand_down(group, name)
            elif any(name in child.subtree for child in group.children.values()):
                raise fail(errno.EBUSY)
            else:
                group.subtree.discard(name)

    def _hand_down(self, group: Group, name: str) -> None:
        if name not in self._available(group):
            raise fail(errno.ENOENT)
        if group.processes and (group.parent or not self.real_root):
            raise fail(errno.EBUSY)
        group.subtree.add(name)

    def _kill(self, group: Group, text: str) -> None:
        if text.strip() != "1":
            raise fail(errno.ERANGE)
        for below in group.tree():
            if below.processes:
                below.dying = self.dying
            below.processes.clear()


def _checked(name: str, text: str) -> str:
    if name in {"memory.max", "memory.low", "memory.swap.max", "pids.max"}:
        good = text == "max" or text.isdigit()
    elif name == "memory.oom.group":
        good = text in {"0", "1"}
    elif name == "cpu.weight":
        if not 1 <= int(text) <= 10_000:
            raise fail(errno.ERANGE)
        good = True
    else:
        assert name == "cpu.max", name
        quota, _, period = text.partition(" ")
        good = (quota == "max" or int(quota) >= 1000) and (not period or 1000 <= int(period) <= 1_000_000)
    if not good:
        raise fail(errno.EINVAL)
    return text
