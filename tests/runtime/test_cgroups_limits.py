from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from squall.runtime.cgroups.limits import (
    MIB,
    containers_memory_mib,
    memory_cap_mib,
    oom_score_adj,
    settings,
)
from squall.runtime.spec import Resources

ALL = frozenset({"cpu", "cpuacct", "memory", "pids"})


def written(version: int, resources: Resources, node_mib: int = 8000) -> dict[str, str]:
    return {s.file: s.value for s in settings(version, ALL, resources, node_mib)}


def test_a_core_is_the_kernels_default_weight() -> None:
    assert written(1, Resources(cpu_millis=1000))["cpu.shares"] == "1024"
    assert written(2, Resources(cpu_millis=1000))["cpu.weight"] == "100"


def test_requests_are_proportional() -> None:
    assert written(1, Resources(cpu_millis=125))["cpu.shares"] == "128"
    assert written(2, Resources(cpu_millis=4000))["cpu.weight"] == "400"


def test_without_a_limit_there_is_no_quota() -> None:
    assert "cpu.cfs_quota_us" not in written(1, Resources())
    assert "cpu.max" not in written(2, Resources())


def test_a_cpu_limit_is_a_quota() -> None:
    assert written(1, Resources(cpu_limit_millis=1500))["cpu.cfs_quota_us"] == "150000"
    assert written(2, Resources(cpu_limit_millis=1500))["cpu.max"] == "150000 100000"


def test_the_host_keeps_a_reserve() -> None:
    assert containers_memory_mib(100_000) == 95_000
    assert containers_memory_mib(2_000) == 2_000 - 256
    assert containers_memory_mib(400) == 300


def test_memory_is_capped_by_limit_or_node() -> None:
    assert memory_cap_mib(Resources(memory_limit_mib=512), 8000) == 512
    assert memory_cap_mib(Resources(), 8000) == 7600
    assert memory_cap_mib(Resources(memory_limit_mib=1 << 20), 8000) == 7600


def test_swap_is_off() -> None:
    assert written(2, Resources())["memory.swap.max"] == "0"
    v1 = written(1, Resources(memory_limit_mib=64))
    assert v1["memory.memsw.limit_in_bytes"] == v1["memory.limit_in_bytes"] == str(64 * MIB)


def test_version_1_sets_memory_before_memory_and_swap() -> None:
    files = [s.file for s in settings(1, ALL, Resources(), 8000)]
    assert files.index("memory.limit_in_bytes") < files.index("memory.memsw.limit_in_bytes")


def test_only_what_the_hierarchy_controls_is_written() -> None:
    assert [s.file for s in settings(2, frozenset({"pids"}), Resources(), 8000)] == ["pids.max"]


def test_who_asked_for_more_goes_later() -> None:
    small, large = (oom_score_adj(Resources(memory_mib=m), 8000) for m in (128, 4000))
    assert small > large


@given(
    st.builds(
        Resources,
        cpu_millis=st.integers(0, 10**7),
        cpu_limit_millis=st.none() | st.integers(1, 10**7),
        memory_mib=st.integers(1, 10**7),
        memory_limit_mib=st.none() | st.integers(1, 10**7),
    ),
    st.integers(256, 10**7),
)
def test_all_values_are_in_the_kernels_ranges(resources: Resources, node_mib: int) -> None:
    v1, v2 = written(1, resources, node_mib), written(2, resources, node_mib)
    assert 2 <= int(v1["cpu.shares"]) <= 262_144
    assert 1 <= int(v2["cpu.weight"]) <= 10_000
    assert int(v2.get("cpu.max", "1000 1").split()[0]) >= 1000
    assert 0 < int(v2["memory.max"]) <= node_mib * MIB
    assert 2 <= oom_score_adj(resources, node_mib) <= 999
