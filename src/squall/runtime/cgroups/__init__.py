"""Control groups: what a container may use of CPU, memory and processes, and what it has used.

One door for cgroup v2, v1 and hosts that mix them. `Cgroups.detect` finds out what the host really allows.
"""

from __future__ import annotations

from squall.runtime.cgroups.groups import Cgroup, CgroupError, Cgroups
from squall.runtime.cgroups.limits import oom_score_adj

__all__ = ["Cgroup", "CgroupError", "Cgroups", "oom_score_adj"]
