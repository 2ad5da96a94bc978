"""From `Resources` to what is written into the files of a control group. Pure.

CPU: a request is a weight among the containers, a limit a quota. Memory: a request is what is reclaimed last,
a limit (or the node's total less a reserve) caps. See docs.kernel.org, admin-guide/cgroup-v2 and cgroup-v1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from squall.runtime.spec import Resources

MIB = 1 << 20

#: Length of the period of a CPU quota; the kernel's default.
PERIOD_US = 100_000
MIN_QUOTA_US = 1_000

#: One core is 1,024 shares (v1) or a weight of 100 (v2), the kernel's defaults, so that weights are
#: proportional to requests in both.
SHARES_PER_CORE, MIN_SHARES, MAX_SHARES = 1_024, 2, 262_144
WEIGHT_PER_CORE, MIN_WEIGHT, MAX_WEIGHT = 100, 1, 10_000

#: What containers together leave to the host: 5 % of its memory, at least 256 MiB, never over a quarter.
RESERVE_FRACTION, MIN_RESERVE_MIB, MAX_RESERVE_FRACTION = 20, 256, 4

#: The range that leaves -1000 (never) to the host's own daemons and 1000 (first) to nobody.
MIN_OOM_SCORE_ADJ, MAX_OOM_SCORE_ADJ = 2, 999


class Setting(NamedTuple):
    """One file of a control group. Not `required`: the kernel may lack it (swap accounting, soft limits)."""

    file: str
    value: str
    required: bool = True


def containers_memory_mib(node_memory_mib: int) -> int:
    """What all containers of a node together may use: its total less a reserve for the host. MiB."""
    reserve = max(node_memory_mib // RESERVE_FRACTION, MIN_RESERVE_MIB)
    return node_memory_mib - min(reserve, node_memory_mib // MAX_RESERVE_FRACTION)


def memory_cap_mib(resources: Resources, node_memory_mib: int) -> int:
    """What one container may use. MiB."""
    cap = containers_memory_mib(node_memory_mib)
    return cap if resources.memory_limit_mib is None else min(resources.memory_limit_mib, cap)


def oom_score_adj(resources: Resources, node_memory_mib: int) -> int:
    """For /proc/PID/oom_score_adj: when the node is short, who is over its request goes first.

    The kernel's score is used/total in thousandths plus this; a process at its request scores 1,000, whatever
    the request is. (The formula of Kubernetes' "burstable" pods.)
    """
    adj = 1000 - 1000 * resources.memory_mib // node_memory_mib
    return _clamp(adj, MIN_OOM_SCORE_ADJ, MAX_OOM_SCORE_ADJ)


def settings(
    version: int, controllers: AbstractSet[str], resources: Resources, node_memory_mib: int
) -> list[Setting]:
    """What to write into a new group of one hierarchy, in this order."""
    cpu, memory, pids = (_cpu_v1, _memory_v1, _pids) if version == 1 else (_cpu_v2, _memory_v2, _pids)
    found: list[Setting] = []
    if "cpu" in controllers:
        found += cpu(resources)
    if "memory" in controllers:
        found += memory(resources, memory_cap_mib(resources, node_memory_mib) * MIB)
    if "pids" in controllers:
        found += pids(resources)
    return found


def memory_cap(version: int, mib: int) -> Setting:
    """The cap of the group that holds all containers: the node runs out of memory in here, not outside."""
    return Setting("memory.limit_in_bytes" if version == 1 else "memory.max", str(mib * MIB))


def _cpu_v1(resources: Resources) -> list[Setting]:
    shares = _clamp(resources.cpu_millis * SHARES_PER_CORE // 1000, MIN_SHARES, MAX_SHARES)
    found = [Setting("cpu.shares", str(shares))]
    if resources.cpu_limit_millis is not None:
        found.append(Setting("cpu.cfs_period_us", str(PERIOD_US)))
        found.append(Setting("cpu.cfs_quota_us", str(_quota_us(resources.cpu_limit_millis))))
    return found


def _cpu_v2(resources: Resources) -> list[Setting]:
    weight = _clamp(resources.cpu_millis * WEIGHT_PER_CORE // 1000, MIN_WEIGHT, MAX_WEIGHT)
    found = [Setting("cpu.weight", str(weight))]
    if resources.cpu_limit_millis is not None:
        found.append(Setting("cpu.max", f"{_quota_us(resources.cpu_limit_millis)} {PERIOD_US}"))
    return found


def _quota_us(limit_millis: int) -> int:
    return max(limit_millis * PERIOD_US // 1000, MIN_QUOTA_US)


def _memory_v1(resources: Resources, cap: int) -> list[Setting]:
    return [
        Setting("memory.limit_in_bytes", str(cap)),
        # Memory and swap together, never below the former: hence the order.
        Setting("memory.memsw.limit_in_bytes", str(cap), required=False),
        Setting("memory.swappiness", "0", required=False),
        Setting("memory.soft_limit_in_bytes", str(resources.memory_mib * MIB), required=False),
    ]


def _memory_v2(resources: Resources, cap: int) -> list[Setting]:
    return [
        Setting("memory.max", str(cap)),
        Setting("memory.low", str(resources.memory_mib * MIB)),
        Setting("memory.swap.max", "0", required=False),
        # A container short of memory ends as a whole, rather than limp on without one of its processes.
        Setting("memory.oom.group", "1"),
    ]


def _pids(resources: Resources) -> list[Setting]:
    return [Setting("pids.max", str(resources.pids))]


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
