"""What a test session left on the host: processes, mounts, cgroups, network links, nftables tables.

A leak counts when it is surely ours: a process that has the session's mark in its environment, or anything
that names the session's temporary folder. What cannot be told apart by its looks (a daemon detached with a
clean environment, a cgroup, a link) counts too, if no other pytest ran on the host at the time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

#: The environment variable that marks a session's processes.
MARK = "TEST_SESSION"

#: Started by Python itself, and ended with pytest.
PYTHON_HELPERS = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver")

#: What tells of another test session, a worker of this one (pytest-xdist's), or a soak.
OTHERS = (b"pytest", b"exec(eval(sys.stdin.readline()))", b"tests.soak")

#: Ends are asynchronous: what is gone within this many seconds was no leak.
GRACE_S = 10.0


@dataclass(frozen=True)
class Process:
    pid: int
    started: str
    command: bytes
    surroundings: bytes

    def __str__(self) -> str:
        return f"process {self.pid}: {self.command.decode(errors='replace').strip()[:200]}"


@dataclass(frozen=True)
class Snapshot:
    """The state of the host; `things` are one-line descriptions of all that is not a process."""

    processes: frozenset[Process]
    things: frozenset[str]

    @property
    def alone(self) -> bool:
        return not any(other in p.command for p in self.processes for other in OTHERS)


def snapshot() -> Snapshot:
    return Snapshot(_processes(), frozenset(_mounts() | cgroups() | _links() | _tables()))


def left_behind(before: Snapshot, after: Snapshot, ours: tuple[str, ...]) -> list[str]:
    """What is new and ours; `ours` are strings that only this session's things contain."""
    strict = before.alone and after.alone
    known = {(p.pid, p.started) for p in before.processes}
    marks = [mark.encode() for mark in ours]

    def leaked(process: Process) -> bool:
        if (process.pid, process.started) in known or any(h in process.command for h in PYTHON_HELPERS):
            return False
        text = process.command + process.surroundings
        return any(mark in text for mark in marks) or (strict and b"squall" in process.command)

    processes = [str(p) for p in after.processes if leaked(p)]
    things = [t for t in after.things - before.things if strict or any(mark in t for mark in ours)]
    return sorted(processes + things)


def wait_for_leaks(before: Snapshot, ours: tuple[str, ...], grace_s: float = GRACE_S) -> list[str]:
    """What is still left after the grace period; empty at once when nothing is."""
    deadline = time.monotonic() + grace_s
    while (leaks := left_behind(before, snapshot(), ours)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return leaks


def _processes() -> frozenset[Process]:
    own = _ancestors(os.getpid())
    folders = (p for p in Path("/proc").glob("[0-9]*") if int(p.name) not in own)
    return frozenset(process for folder in folders if (process := _process(folder)))


def _process(folder: Path) -> Process | None:
    command = _read(folder / "cmdline").replace(b"\0", b" ")
    if not command:  # a kernel thread, a zombie, or gone
        return None
    try:
        cwd = os.fsencode((folder / "cwd").readlink()) + b"/"
    except OSError:
        cwd = b""
    return Process(int(folder.name), _stat(folder)[19], command, _read(folder / "environ") + b"\0" + cwd)


def _ancestors(pid: int) -> set[int]:
    found = set()
    while pid > 0:
        found.add(pid)
        fields = _stat(Path(f"/proc/{pid}"))
        pid = int(fields[1]) if fields[1] else 0
    return found


def _stat(folder: Path) -> list[str]:
    """The fields of `stat` from the state on (proc(5) counts it as the third)."""
    fields = _read(folder / "stat").decode(errors="replace").rpartition(")")[2].split()
    return fields if len(fields) > 19 else [""] * 20


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _mounts() -> set[str]:
    lines = _read(Path("/proc/self/mountinfo")).decode(errors="replace").splitlines()
    mounts = ((line.split()[4], line.partition(" - ")[2]) for line in lines)
    return {f"mount {target} ({source})" for target, source in mounts if _is_ours(f"{target} {source}")}


def _is_ours(text: str) -> bool:
    return "squall" in text or "/pytest-of-" in text


def cgroups(root: Path = Path("/sys/fs/cgroup")) -> set[str]:
    """Every group named squall-something, at most four levels down, and those below it.

    Groups of other programs come and go meanwhile: `os.walk` passes over a folder that is gone.
    """
    found = set()
    for base, names, _ in os.walk(root):
        depth = len(Path(base).relative_to(root).parts)
        for name in list(names):
            if base in found or name.startswith("squall"):
                found.add(f"{base}/{name}")
            elif depth == 3:
                names.remove(name)
    return {f"cgroup {path}" for path in found}


def _links() -> set[str]:
    lines = _read(Path("/proc/self/net/dev")).decode().splitlines()[2:]
    return {f"network link {line.partition(':')[0].strip()}" for line in lines}


def _tables() -> set[str]:
    nft = shutil.which("nft")
    if nft is None or os.geteuid() != 0:
        return set()
    listed = subprocess.run([nft, "list", "tables"], capture_output=True, text=True, check=False, timeout=30)
    return {f"nftables {line}" for line in listed.stdout.splitlines()}
