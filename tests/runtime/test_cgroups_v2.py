"""Version 2 against a double of cgroupfs that keeps the kernel's rules: this host may have version 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from squall.runtime.cgroups import Cgroup, CgroupError, Cgroups
from squall.runtime.spec import Resources, Usage
from tests.runtime.cgroupfs import Cgroupfs

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20
NODE_MIB = 8000


def detect(files: Cgroupfs) -> Cgroups:
    found = Cgroups.detect("squall", ROOT, files)
    assert found
    return found


def create(files: Cgroupfs, **resources: int) -> tuple[Cgroup, Path]:
    return detect(files).create("ct-1", Resources(**resources), NODE_MIB), ROOT / "squall" / "ct-1"


@pytest.fixture
def files() -> Cgroupfs:
    return Cgroupfs(ROOT)


def test_real_root_hands_controllers_down(files: Cgroupfs) -> None:
    cgroups = detect(files)
    assert cgroups.controllers == {"cpu", "memory", "pids"}
    assert cgroups.losses == ()
    assert files.folders(ROOT) == ["squall"]  # the trial is gone
    assert files.folders(ROOT / "squall") == []


def test_detection_is_repeatable(files: Cgroupfs) -> None:
    assert detect(files).controllers == detect(files).controllers


def test_read_only_tree_is_none(files: Cgroupfs) -> None:
    files.read_only = True
    assert Cgroups.detect("squall", ROOT, files) is None


def test_missing_controller_is_a_loss() -> None:
    cgroups = detect(Cgroupfs(ROOT, controllers=("cpu", "pids")))
    assert cgroups.controllers == {"cpu", "pids"}
    assert [text.split()[0] for text in cgroups.losses] == ["Memory"]


def test_no_controller_is_none() -> None:
    assert Cgroups.detect("squall", ROOT, Cgroupfs(ROOT, controllers=())) is None


def test_delegated_group_gets_our_groups_and_we_move_aside() -> None:
    files = Cgroupfs(ROOT, own="/system.slice/squall.service")
    unit = ROOT / "system.slice/squall.service"
    for above in (ROOT, ROOT / "system.slice"):
        files.write(above / "cgroup.subtree_control", "+cpu +memory +pids")
    files.delegated.add(unit)
    assert detect(files).hierarchies[0].path == unit / "squall"
    assert files.own_cgroup() == "0::/system.slice/squall.service/squall-host\n"
    # A later life starts where the earlier one moved to.
    assert detect(files).hierarchies[0].path == unit / "squall"


def test_group_that_is_not_delegated_is_left_alone() -> None:
    files = Cgroupfs(ROOT, own="/user.slice")
    assert detect(files).hierarchies[0].path == ROOT / "squall"
    assert files.own_cgroup() == "0::/user.slice\n"


def test_root_of_a_cgroup_namespace_is_evacuated() -> None:
    files = Cgroupfs(ROOT, real_root=False)
    assert detect(files).controllers == {"cpu", "memory", "pids"}
    assert files.own_cgroup() == "0::/squall-host\n"


def test_limits_are_written(files: Cgroupfs) -> None:
    _, path = create(
        files, cpu_millis=2000, cpu_limit_millis=3000, memory_mib=100, memory_limit_mib=200, pids=7
    )
    texts = {f: files.read(path / f).strip() for f in ("cpu.weight", "cpu.max", "memory.max", "memory.low")}
    assert texts == {
        "cpu.weight": "200",
        "cpu.max": "300000 100000",
        "memory.max": str(200 * MIB),
        "memory.low": str(100 * MIB),
    }
    assert files.read(path / "pids.max") == "7\n"
    assert files.read(path / "memory.swap.max") == "0\n"
    assert files.read(path / "memory.oom.group") == "1\n"


def test_kernel_without_swap_accounting_is_fine() -> None:
    files = Cgroupfs(ROOT, swap=False)
    _, path = create(files)
    assert not files.exists(path / "memory.swap.max")


def test_all_containers_together_leave_the_host_its_reserve(files: Cgroupfs) -> None:
    create(files)
    assert files.read(ROOT / "squall" / "memory.max").strip() == str(7600 * MIB)


def test_parent_protects_exactly_what_children_requested(files: Cgroupfs) -> None:
    cgroups = detect(files)
    first = cgroups.create("ct-1", Resources(memory_mib=100), NODE_MIB)
    cgroups.create("ct-2", Resources(memory_mib=50), NODE_MIB)
    assert files.read(ROOT / "squall" / "memory.low").strip() == str(150 * MIB)
    again = detect(files)  # a later life reads the requests of those that run
    again.create("ct-3", Resources(memory_mib=1), NODE_MIB)
    assert files.read(ROOT / "squall" / "memory.low").strip() == str(151 * MIB)
    first.remove()
    assert files.read(ROOT / "squall" / "memory.low").strip() == str(50 * MIB)


def test_process_is_moved_and_measured(files: Cgroupfs) -> None:
    group, _ = create(files)
    pid = files.spawn()
    group.add(pid)
    files.burn(pid, 1_500_000)
    files.charge(pid, 10 * MIB)
    files.charge(pid, -4 * MIB)
    assert group.usage() == Usage(1.5, 6 * MIB, 10 * MIB)


def test_peak_before_5_19_is_the_highest_seen() -> None:
    files = Cgroupfs(ROOT, peak=False)
    group, _ = create(files)
    pid = files.spawn()
    group.add(pid)
    files.charge(pid, 10 * MIB)
    group.usage()
    files.charge(pid, -4 * MIB)
    assert group.usage() == Usage(0.0, 6 * MIB, 10 * MIB)


def test_memory_over_the_limit_ends_the_whole_container_and_is_told(files: Cgroupfs) -> None:
    group, path = create(files, memory_limit_mib=64)
    first = files.spawn()
    group.add(first)
    second = files.fork(first)
    assert not group.oom_killed()
    assert not files.charge(second, 65 * MIB)
    assert group.oom_killed()
    assert files.read(path / "cgroup.procs") == ""


def test_limit_of_processes_is_told(files: Cgroupfs) -> None:
    group, _ = create(files, pids=2)
    pid = files.spawn()
    group.add(pid)
    files.fork(pid)
    assert not group.pids_hit()
    with pytest.raises(BlockingIOError):
        files.fork(pid)
    assert group.pids_hit()


@pytest.mark.parametrize("with_kill", [True, False])
def test_kill_reaches_all_and_invents_no_limit(with_kill: bool) -> None:
    files = Cgroupfs(ROOT, kill=with_kill)
    group, path = create(files)
    pid = files.spawn()
    group.add(pid)
    files.fork(pid)
    group.kill()
    assert files.read(path / "cgroup.procs") == ""
    assert not group.pids_hit()


def test_remove_waits_for_the_dying() -> None:
    files = Cgroupfs(ROOT, dying=3)
    group, path = create(files)
    group.add(files.spawn())
    group.kill()
    assert group.remove()
    assert not files.exists(path)
    assert group.usage() == Usage()


def test_remove_gives_up_in_time() -> None:
    files = Cgroupfs(ROOT, dying=10**9)
    group, _ = create(files)
    group.add(files.spawn())
    assert not group.remove(timeout_s=0)
    assert files.folders(ROOT / "squall") == ["ct-1"]


def test_remove_twice_is_fine(files: Cgroupfs) -> None:
    group, _ = create(files)
    assert group.remove()
    assert group.remove()


def test_same_name_twice_is_refused_and_the_first_stays(files: Cgroupfs) -> None:
    cgroups = detect(files)
    cgroups.create("ct-1", Resources(), NODE_MIB)
    with pytest.raises(CgroupError, match="ct-1"):
        cgroups.create("ct-1", Resources(), NODE_MIB)
    assert files.folders(ROOT / "squall") == ["ct-1"]


def test_dead_process_cannot_be_added(files: Cgroupfs) -> None:
    group, _ = create(files)
    with pytest.raises(CgroupError, match="4711"):
        group.add(4711)


@pytest.mark.parametrize("name", ["", "a/b", "..", "memory.max", "cgroup.procs", "a\n"])
def test_names_that_are_paths_or_files_are_refused(files: Cgroupfs, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        detect(files).create(name, Resources(), NODE_MIB)


def test_stale_groups_are_removed_with_what_runs_in_them(files: Cgroupfs) -> None:
    cgroups = detect(files)
    for name in ("ct-1", "ct-2"):
        cgroups.create(name, Resources(), NODE_MIB).add(files.spawn())
    assert detect(files).remove_stale({"ct-2"}) == ["ct-1"]
    assert files.folders(ROOT / "squall") == ["ct-2"]
    assert files.read(ROOT / "squall/ct-2/cgroup.procs")


def test_close_leaves_nothing(files: Cgroupfs) -> None:
    detect(files).close()
    assert files.folders(ROOT) == []
