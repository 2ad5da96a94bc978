"""What a running daemon uses, at one moment."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.soak.parts import PARTS, Parts, read

#: One part's figures, summed over its processes.
Figures = dict[str, float]


def parts(state: str, program: int) -> dict[str, Figures]:
    """Memory in MiB, open descriptors, threads, processor seconds; `program` is the caller's own process."""
    living = Parts(state)
    found = {part: living.find(part) for part in PARTS}
    return {part: _sum(pids) for part, pids in {**found, "program": [program]}.items()}


def host(state: str) -> Figures:
    """What the kernel holds for this daemon, and the size of its directory, in MiB."""
    key = hashlib.sha256(os.fsencode(Path(state, "launcher").resolve())).hexdigest()[:8]
    launcher = next(iter(Parts(state).find("launcher")), 0)
    links = [line for line in _lines(Path("/proc/net/dev")) if line.strip().startswith(f"sq{key[:6]}")]
    groups = [base for base, _, _ in os.walk("/sys/fs/cgroup") if key in base]
    return {
        "mounts": len(read(launcher, "mountinfo").splitlines()),
        "links": len(links),
        "tables": sum(f"squall_{key}" in line for line in _tables()),
        "cgroups": len(groups),
        "state_mib": _size(Path(state)),
        "layers_mib": _size(Path(state, "node", "layers")),
        "database_mib": _size(Path(state, "server")),
        "blobs_mib": _size(Path(state, "server", "blobs")),
        "logs_mib": _size(Path(state, "logs")),
    }


def _sum(pids: list[int]) -> Figures:
    figures = [_figures(pid) for pid in pids]
    names = ("rss_mib", "pss_mib", "descriptors", "threads", "cpu_s")
    return {"processes": len(pids), **{name: round(sum(f[name] for f in figures), 3) for name in names}}


def _figures(pid: int) -> Figures:
    memory = {
        line.split()[0]: line.split()[1] for line in read(pid, "smaps_rollup").decode().splitlines()[1:]
    }
    stat = read(pid, "stat").decode(errors="replace").rpartition(")")[2].split() or ["0"] * 20
    try:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        descriptors = 0
    return {
        "rss_mib": int(memory.get("Rss:", 0)) / 1024,
        "pss_mib": int(memory.get("Pss:", 0)) / 1024,
        "descriptors": descriptors,
        "threads": int(stat[17]),
        "cpu_s": (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"),
    }


def _size(folder: Path) -> float:
    blocks = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                blocks += os.lstat(os.path.join(base, name)).st_blocks
            except OSError:  # noqa: PERF203 - it went meanwhile
                continue
    return round(blocks / 2048, 3)


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def _tables() -> list[str]:
    nft = shutil.which("nft")
    if nft is None or os.geteuid() != 0:
        return []
    return subprocess.run(
        [nft, "list", "tables"], capture_output=True, text=True, check=False
    ).stdout.splitlines()
