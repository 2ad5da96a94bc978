"""What this machine has to offer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from squall.wire.messages import NodeResources

if TYPE_CHECKING:
    from squall.node.gpus import Gpus


def of_this_machine(driver: str, losses: tuple[str, ...], gpus: Gpus) -> NodeResources:
    """CPUs that this process may use, memory of machine or cgroup, and its GPUs."""
    planned = [
        f"GPUs of type {kind} are declared only: containers get no device." for kind in gpus.only_declared
    ]
    return NodeResources(
        cpu_millis=len(os.sched_getaffinity(0)) * 1000,
        memory_mib=memory_mib(),
        gpus=gpus.counts,
        driver=driver,
        arch=os.uname().machine,
        losses=[*losses, *planned],
    )


def memory_mib() -> int:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([pages, *_limits()]) >> 20


def _limits() -> list[int]:
    """Of the container that this machine may be."""
    files = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    found = []
    for name in files:
        try:
            text = Path(name).read_text("ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            found.append(int(text))
    return found


def parse_gpus(text: str) -> dict[str, int] | None:
    """`H100:8,L4` to counts by type, `none` to no GPU, nothing to None (what is there). Raises ValueError."""
    if text.strip() in ("", "none"):
        return {} if text.strip() else None
    found: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        kind, _, count = part.partition(":")
        if not kind or (count and not (count.isdecimal() and int(count) > 0)):
            raise ValueError(f"{part!r} is no GPU: write TYPE or TYPE:COUNT, such as H100:8")
        found[kind] = found.get(kind, 0) + int(count or 1)
    return found
