"""The host's real hierarchies, whatever version they are."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from squall.runtime.cgroups import Cgroup, CgroupError, Cgroups
from squall.runtime.spec import Resources, Usage
from tests.house.slowness import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

MIB = 1 << 20
NODE_MIB = 4096


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    found = Cgroups.detect(f"squall-test-{os.getpid()}") if os.geteuid() == 0 else None
    if found is None or found.losses:
        pytest.skip(f"needs root and control groups: {found.losses if found else 'none can be made'}")
    yield found
    found.remove_stale(set())
    found.close()
    assert not any(h.path.exists() for h in found.hierarchies)


def run_in(group: Cgroup, code: str) -> subprocess.Popen[str]:
    """Run Python in the group. It starts when it is in."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", f"import sys, os; sys.stdin.readline()\n{code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    group.add(process.pid)
    return process


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate("go\n", timeout=30 * SLOWNESS)
    return process.returncode, out


def test_limits_reach_the_kernel(cgroups: Cgroups) -> None:
    cgroups.create(
        "ct-1", Resources(cpu_millis=500, cpu_limit_millis=2000, memory_limit_mib=64, pids=9), NODE_MIB
    )
    expected = {
        "cpu.shares": "512",
        "cpu.weight": "50",
        "cpu.cfs_quota_us": "200000",
        "cpu.max": "200000 100000",
        "memory.limit_in_bytes": str(64 * MIB),
        "memory.max": str(64 * MIB),
        "pids.max": "9",
    }
    files = [h.path / "ct-1" / name for h in cgroups.hierarchies for name in expected]
    found = {path.name: path.read_text().strip() for path in files if path.exists()}
    assert len(found) >= 4
    assert found == {name: expected[name] for name in found}


def test_usage_is_measured(cgroups: Cgroups) -> None:
    group = cgroups.create("ct-1", Resources(), NODE_MIB)
    code = f"""
import time
b, end = bytearray({32 * MIB}), time.process_time() + 0.05
while time.process_time() < end: pass
"""
    assert finish(run_in(group, code)) == (0, "")
    usage = group.usage()
    assert usage.cpu_seconds is not None
    assert usage.cpu_seconds > 0.04
    if any(
        (h.path / "ct-1" / f).exists()
        for h in cgroups.hierarchies
        for f in ("memory.peak", "memory.limit_in_bytes")
    ):
        assert (usage.memory_peak_bytes or 0) > 32 * MIB
    assert not group.oom_killed()
    assert group.remove()
    assert group.usage() == Usage()


def test_out_of_memory_is_told(cgroups: Cgroups) -> None:
    group = cgroups.create("ct-1", Resources(memory_limit_mib=32), NODE_MIB)
    code, _ = finish(run_in(group, f"b = bytearray({64 * MIB})"))
    assert code == -9
    assert group.oom_killed()


def test_limit_of_processes_is_met_and_told(cgroups: Cgroups) -> None:
    group = cgroups.create("ct-1", Resources(pids=3), NODE_MIB)
    code = """
for n in range(9):
    try:
        if os.fork() == 0:
            sys.stdin.read(); os._exit(0)
    except BlockingIOError:
        print(n); break
"""
    assert finish(run_in(group, code)) == (0, "2\n")
    assert group.pids_hit()


def test_kill_reaches_children_in_sessions_of_their_own(cgroups: Cgroups) -> None:
    group = cgroups.create("ct-1", Resources(), NODE_MIB)
    code = """
import signal
r, w = os.pipe()
if os.fork() == 0:
    os.setsid(); os.write(w, b"x"); signal.pause()
os.read(r, 1); print("up", flush=True); signal.pause()
"""
    process = run_in(group, code)
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "up\n"
    group.kill()
    assert process.wait(30) == -9
    assert process.stdout.read() == ""  # ends when the grandchild has closed it, too
    process.communicate()
    assert group.remove()


def test_kill_without_the_kernels_help(cgroups: Cgroups) -> None:
    group = cgroups.create("ct-1", Resources(), NODE_MIB)
    process = run_in(group, "import signal; signal.pause()")
    group._kill_one_by_one()
    assert process.wait(30) == -9
    process.communicate()
    assert not group.pids_hit()


def test_stale_groups_are_removed_with_what_runs_in_them(cgroups: Cgroups) -> None:
    process = run_in(cgroups.create("ct-1", Resources(), NODE_MIB), "import signal; signal.pause()")
    cgroups.create("ct-2", Resources(), NODE_MIB)
    reborn = Cgroups.detect(cgroups.hierarchies[0].path.name)
    assert reborn
    assert reborn.remove_stale({"ct-2"}) == ["ct-1"]
    assert process.wait(30) == -9
    process.communicate()
    left = {name.name for h in reborn.hierarchies for name in h.path.iterdir() if name.is_dir()}
    assert left == {"ct-2"}


def test_dead_process_cannot_be_added(cgroups: Cgroups) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(CgroupError, match=str(process.pid)):
        cgroups.create("ct-1", Resources(), NODE_MIB).add(process.pid)
