"""The groups of containers, one for each container in every hierarchy that the host has.

A trap: when nothing was moved between groups for half a second, the first write to `cgroup.procs` waits 4 to
24 ms for all CPUs to pass a quiet state (version 1 and 2 alike). The writes that follow at once are cheap, so
join all hierarchies in a row, off the path of a start that must be fast.
"""

from __future__ import annotations

import errno
import re
import time
from contextlib import suppress
from pathlib import Path

from squall.runtime.cgroups.files import Files, HostFiles
from squall.runtime.cgroups.hierarchy import Hierarchy, find_hierarchies
from squall.runtime.cgroups.limits import MIB, containers_memory_mib, memory_cap, settings
from squall.runtime.spec import Resources, Usage

#: Names that can be no file of cgroupfs (those have a dot).
NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")

#: How long `remove` waits for killed processes to go, and how often it looks. Seconds.
REMOVE_TIMEOUT_S = 1.0
REMOVE_POLL_S = 0.002

#: Rounds of killing one by one where the kernel cannot kill a group. New processes cannot appear meanwhile.
KILL_ROUNDS = 20

LOSSES = {
    "cpu": "CPU is not shared by request nor limited: the host lets us use no cpu controller.",
    "memory": "Memory is neither limited nor measured: the host lets us use no memory controller.",
    "pids": "The number of processes is not limited: the host lets us use no pids controller.",
}


class CgroupError(Exception):
    """The kernel refused; the message is one line."""


class Cgroups:
    """Our own group in each hierarchy of the host, below which containers have theirs."""

    def __init__(self, files: Files, hierarchies: list[Hierarchy]) -> None:
        self._files = files
        self.hierarchies = tuple(hierarchies)
        self._capped_mib: int | None = None
        self._requests = self._read_requests()

    @classmethod
    def detect(
        cls, parent: str = "squall", root: Path = Path("/sys/fs/cgroup"), files: Files | None = None
    ) -> Cgroups | None:
        """What the host allows, found out by doing; None if it allows no control of anything.

        `parent` names our group. Two owners (two state directories) on a host need different names, or each
        takes the other's containers for leftovers.
        """
        _check_name(parent)
        files = files or HostFiles()
        found = find_hierarchies(files, root, parent)
        return cls(files, found) if any(h.controllers for h in found) else None

    @property
    def controllers(self) -> frozenset[str]:
        return frozenset(c for h in self.hierarchies for c in h.controllers)

    @property
    def losses(self) -> tuple[str, ...]:
        """What containers lose on this host, one sentence each."""
        return tuple(text for controller, text in LOSSES.items() if controller not in self.controllers)

    def create(self, name: str, resources: Resources, node_memory_mib: int) -> Cgroup:
        """A new group with its limits. Raises `CgroupError`, and leaves nothing behind then."""
        _check_name(name)
        self._cap_all(node_memory_mib)
        group = Cgroup(self, name)
        made: list[Path] = []
        try:
            for hierarchy in self.hierarchies:
                path = hierarchy.path / name
                self._files.mkdir(path)
                made.append(path)
                self._configure(hierarchy, path, resources, node_memory_mib)
        except OSError as error:
            for path in made:
                self._files.rmdir(path)
            raise CgroupError(f"cannot make the control group {name}: {error}") from error
        self.set_request(name, resources.memory_mib * MIB)
        return group

    def find(self, name: str) -> Cgroup:
        """The group of that name that an earlier life made."""
        _check_name(name)
        return Cgroup(self, name)

    def remove_stale(self, keep: set[str]) -> list[str]:
        """Kill and remove the groups of an earlier life that nobody claims; their names."""
        stale = sorted(self._names() - keep)
        for name in stale:
            group = Cgroup(self, name)
            group.kill()
            group.remove()
        return stale

    def close(self) -> None:
        """Remove our own group, which must be empty, from every hierarchy. Groups still in use stay."""
        for hierarchy in self.hierarchies:
            with suppress(OSError):
                self._files.rmdir(hierarchy.path)

    def set_request(self, name: str, request: int | None) -> None:
        """Tell our own group what its children have requested together, in bytes.

        `memory.low` protects a child only as far as its parent is protected; and a parent protected beyond
        the sum would spread the rest over the children that use more than they asked for.
        """
        if request is None:
            self._requests.pop(name, None)
        else:
            self._requests[name] = request
        for hierarchy in self.hierarchies:
            if hierarchy.version == 2 and "memory" in hierarchy.controllers:
                with suppress(OSError):
                    self._files.write(hierarchy.path / "memory.low", str(sum(self._requests.values())))

    @property
    def files(self) -> Files:
        return self._files

    def _configure(self, hierarchy: Hierarchy, path: Path, resources: Resources, node_mib: int) -> None:
        for setting in settings(hierarchy.version, hierarchy.controllers, resources, node_mib):
            with suppress(*(() if setting.required else (OSError,))):
                self._files.write(path / setting.file, setting.value)

    def _cap_all(self, node_memory_mib: int) -> None:
        mib = containers_memory_mib(node_memory_mib)
        if mib == self._capped_mib:
            return
        for hierarchy in self.hierarchies:
            if "memory" in hierarchy.controllers:
                cap = memory_cap(hierarchy.version, mib)
                # Refused (EBUSY) if running containers use more already: then it caps nothing yet.
                with suppress(OSError):
                    self._files.write(hierarchy.path / cap.file, cap.value)
        self._capped_mib = mib

    def _names(self) -> set[str]:
        return {name for h in self.hierarchies for name in self._files.folders(h.path)}

    def _read_requests(self) -> dict[str, int]:
        requests: dict[str, int] = {}
        for hierarchy in self.hierarchies:
            if hierarchy.version == 2 and "memory" in hierarchy.controllers:
                for name in self._files.folders(hierarchy.path):
                    low = _number(self._files, hierarchy.path / name / "memory.low")
                    requests[name] = low or 0
        return requests


class Cgroup:
    """The groups of one container."""

    def __init__(self, cgroups: Cgroups, name: str) -> None:
        self.name = name
        self._cgroups = cgroups
        self._files = cgroups.files
        self._hierarchies = cgroups.hierarchies
        self._pids_hit = False
        self._peak = 0

    def add(self, pid: int) -> None:
        """Move a process with all its threads into the group. Raises `CgroupError`."""
        try:
            for hierarchy in self._hierarchies:
                self._files.write(hierarchy.path / self.name / "cgroup.procs", str(pid))
        except OSError as error:
            raise CgroupError(f"cannot move process {pid} into its control group: {error}") from error

    @property
    def entrance(self) -> Path | None:
        """The directory for CLONE_INTO_CGROUP, on hosts of version 2 alone: being born here costs no move."""
        only = self._hierarchies[0]
        return only.path / self.name if len(self._hierarchies) == 1 and only.version == 2 else None

    def kill(self) -> None:
        """SIGKILL to all members, at once where the kernel can (5.14 and newer, version 2)."""
        for hierarchy in self._hierarchies:
            path = hierarchy.path / self.name
            if hierarchy.version == 2 and self._files.exists(path / "cgroup.kill"):
                with suppress(OSError):
                    self._files.write(path / "cgroup.kill", "1")
                return
        self._kill_one_by_one()

    def usage(self) -> Usage:
        """So far; empty once the group is removed."""
        memory = self._memory("memory.usage_in_bytes", "memory.current")
        if memory is None:
            return Usage(self._cpu_seconds())
        self._peak = max(self._peak, memory)
        peak = self._memory("memory.max_usage_in_bytes", "memory.peak")
        # `memory.peak` came with kernel 5.19. Before that, the highest that was seen.
        return Usage(self._cpu_seconds(), memory, self._peak if peak is None else peak)

    def oom_killed(self) -> bool:
        """Whether the kernel has killed a member for lack of memory, the container's own or the node's."""
        for hierarchy in self._with("memory"):
            file = "memory.oom_control" if hierarchy.version == 1 else "memory.events"
            return self._counter(hierarchy, file, "oom_kill") > 0
        return False

    def pids_hit(self) -> bool:
        """Whether the limit of processes was met at least once."""
        for hierarchy in self._with("pids"):
            self._pids_hit = self._pids_hit or self._counter(hierarchy, "pids.events", "max") > 0
        return self._pids_hit

    def remove(self, timeout_s: float = REMOVE_TIMEOUT_S) -> bool:
        """Remove the group, waiting for members that die. Raises `CgroupError` if the kernel refuses.

        False if some still live when the time is over; the group stays for another try then.
        """
        deadline = time.monotonic() + timeout_s
        while not self._remove_now():
            if time.monotonic() >= deadline:
                return False
            self.kill()
            time.sleep(REMOVE_POLL_S)
        self._cgroups.set_request(self.name, None)
        return True

    def _remove_now(self) -> bool:
        # From every hierarchy, also when one of them refuses.
        return False not in [self._remove_from(h) for h in self._hierarchies]

    def _remove_from(self, hierarchy: Hierarchy) -> bool:
        try:
            self._files.rmdir(hierarchy.path / self.name)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise CgroupError(f"cannot remove the control group {self.name}: {error}") from error
        return True

    def _kill_one_by_one(self) -> None:
        self.pids_hit()  # before the next line makes it true
        for hierarchy in self._with("pids"):
            with suppress(OSError):
                self._files.write(hierarchy.path / self.name / "pids.max", "0")
        for hierarchy in self._hierarchies:
            with suppress(OSError):
                for _ in range(KILL_ROUNDS):
                    if not self._files.kill_members(hierarchy.path / self.name):
                        break

    def _with(self, controller: str) -> list[Hierarchy]:
        return [h for h in self._hierarchies if controller in h.controllers]

    def _memory(self, v1: str, v2: str) -> int | None:
        for hierarchy in self._with("memory"):
            file = v1 if hierarchy.version == 1 else v2
            return _number(self._files, hierarchy.path / self.name / file)
        return None

    def _cpu_seconds(self) -> float | None:
        for hierarchy in self._with("cpuacct"):
            nanoseconds = _number(self._files, hierarchy.path / self.name / "cpuacct.usage")
            return None if nanoseconds is None else nanoseconds / 1e9
        for hierarchy in self._hierarchies:
            if hierarchy.version == 2 and self._files.exists(hierarchy.path / self.name / "cpu.stat"):
                return self._counter(hierarchy, "cpu.stat", "usage_usec") / 1e6
        return None

    def _counter(self, hierarchy: Hierarchy, file: str, key: str) -> int:
        with suppress(OSError):
            for line in self._files.read(hierarchy.path / self.name / file).splitlines():
                name, _, value = line.partition(" ")
                if name == key:
                    return int(value)
        return 0


def _number(files: Files, path: Path) -> int | None:
    try:
        return int(files.read(path))
    except (OSError, ValueError):
        return None


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(f"not a name for a control group: {name!r}")
