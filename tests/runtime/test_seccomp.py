"""The programs, run by an interpreter over both architectures' tables."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squall.runtime import seccomp
from squall.runtime.seccomp import (
    ABSENT,
    ALLOW,
    AUDIT_ARCH,
    KILL_PROCESS,
    NO_FAMILY,
    REFUSE,
    container_filter,
)
from squall.runtime.syscalls import NEWEST, TABLES
from tests.runtime.bpf import verdict

HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}
#: Calls that programs cannot live without, with some that Docker's profile needs a capability for.
_NAMES = (
    "read mmap rt_sigreturn execve chroot futex mbind set_mempolicy io_setup memfd_create rseq socketpair"
)
ORDINARY = {
    "x86_64": dict(zip(_NAMES.split(), (0, 9, 15, 59, 161, 202, 237, 238, 206, 319, 334, 53), strict=True)),
    "aarch64": dict(
        zip(_NAMES.split(), (63, 222, 139, 221, 51, 98, 235, 237, 0, 279, 293, 199), strict=True)
    ),
}
#: The same on all architectures.
_NEW_NAMES = (
    "pidfd_send_signal pidfd_open close_range openat2 faccessat2 epoll_pwait2 landlock_create_ruleset mseal"
)
ORDINARY_NEW = dict(zip(_NEW_NAMES.split(), (424, 434, 436, 437, 439, 441, 444, 462), strict=True))
every_arch = pytest.mark.parametrize("arch", sorted(TABLES))
arches = st.sampled_from(sorted(TABLES))
words = st.integers(0, 2**64 - 1)
ints = st.integers(0, 2**32 - 1)


def judge(arch: str, call: str | int, *args: int) -> int:
    number = TABLES[arch][call] if isinstance(call, str) else call
    return verdict(container_filter(arch), AUDIT_ARCH[arch], number, *args)


@every_arch
def test_numbers_are_the_kernels(arch: str) -> None:
    header = next((Path(h) for h in HEADERS[arch] if Path(h).exists()), None)
    if header is None:
        pytest.skip(f"needs a kernel header of {arch}: {' or '.join(HEADERS[arch])} (linux-libc-dev)")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())
    kernel = {name: int(number) for name, number in found}
    unknown = {name: n for name, n in TABLES[arch].items() if name not in kernel}
    assert all(n > 424 for n in unknown.values()), "only calls that are newer than the header may be missing"
    assert {n: kernel[n] for n in TABLES[arch] if n in kernel} == {
        n: number for n, number in TABLES[arch].items() if n in kernel
    }
    ordinary = ORDINARY[arch] | ORDINARY_NEW
    assert {n: kernel[n] for n in ordinary if n in kernel} == {
        n: v for n, v in ordinary.items() if n in kernel
    }


def test_newer_numbers_are_the_same_everywhere() -> None:
    x86_64, aarch64 = TABLES["x86_64"], TABLES["aarch64"]
    assert {n: v for n, v in x86_64.items() if v >= 424} == {n: v for n, v in aarch64.items() if v >= 424}


def test_only_calls_that_arm_never_had_are_missing_there() -> None:
    assert TABLES["x86_64"].keys() - TABLES["aarch64"].keys() == {"ioperm", "iopl", "modify_ldt", "uselib"}
    assert TABLES["aarch64"].keys() <= TABLES["x86_64"].keys()


def test_every_refused_call_has_a_number() -> None:
    assert set(seccomp.REFUSED) <= TABLES["x86_64"].keys()
    assert len(set(seccomp.REFUSED)) == len(seccomp.REFUSED)


@every_arch
def test_refused_calls_are_refused(arch: str) -> None:
    calls = [name for name in seccomp.REFUSED if name in TABLES[arch]]
    assert {name: judge(arch, name) for name in calls} == dict.fromkeys(calls, REFUSE)


@every_arch
def test_ordinary_calls_are_allowed(arch: str) -> None:
    calls = ORDINARY[arch] | ORDINARY_NEW
    assert {name: judge(arch, number) for name, number in calls.items()} == dict.fromkeys(calls, ALLOW)


@every_arch
def test_other_architectures_code_is_killed(arch: str) -> None:
    i386, arm = 0x4000_0003, 0x4000_0028
    others = [i386, arm, *(a for name, a in AUDIT_ARCH.items() if name != arch)]
    assert {verdict(container_filter(arch), other, 1) for other in others} == {KILL_PROCESS}


@every_arch
@pytest.mark.parametrize("call", ["mount", "clone", "ptrace"])
def test_x32_is_no_way_around(arch: str, call: str) -> None:
    assert judge(arch, TABLES[arch][call] | 0x4000_0000, 0x1000_0000) == ABSENT


@every_arch
def test_calls_newer_than_the_filter_are_absent(arch: str) -> None:
    assert judge(arch, NEWEST) == ALLOW
    assert judge(arch, NEWEST + 1) == ABSENT
    assert judge(arch, -1) == ABSENT


@every_arch
@pytest.mark.parametrize(
    "flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000], ids=hex
)
def test_clone_makes_no_namespaces(arch: str, flag: int) -> None:
    assert judge(arch, "clone", flag | 17) == REFUSE
    assert judge(arch, "clone", flag | 0xFFFF_FFFF_0000_0000) == REFUSE


@every_arch
def test_fork_threads_and_vfork_work(arch: str) -> None:
    fork, thread, vfork = 0x1200011, 0x3D0F00, 0x4111
    assert {judge(arch, "clone", flags) for flags in (fork, thread, vfork)} == {ALLOW}
    assert judge(arch, "clone3") == ABSENT


@every_arch
def test_no_typing_into_terminals(arch: str) -> None:
    assert judge(arch, "ioctl", 0, 0x5412) == REFUSE
    assert judge(arch, "ioctl", 0, 0x541C) == REFUSE
    assert judge(arch, "ioctl", 0, 0xFFFF_FFFF_0000_5412) == REFUSE  # the kernel drops the upper half, too
    assert judge(arch, "ioctl", 0x5412, 0x5413) == ALLOW


@every_arch
def test_sockets_of_ordinary_families_only(arch: str) -> None:
    allowed = {n for n in range(64) if judge(arch, "socket", n) == ALLOW}
    assert allowed == {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    assert judge(arch, "socket", socket.AF_ALG) == NO_FAMILY
    assert judge(arch, "socket", 0xFFFF_FFFF_0000_0000 | socket.AF_PACKET) == NO_FAMILY


@every_arch
def test_personality_may_be_asked_but_not_loosened(arch: str) -> None:
    assert judge(arch, "personality", 0xFFFF_FFFF) == ALLOW
    assert judge(arch, "personality", 0) == ALLOW
    assert judge(arch, "personality", 0x0400000) == REFUSE  # READ_IMPLIES_EXEC
    assert judge(arch, "personality", 0x0040000) == REFUSE  # ADDR_NO_RANDOMIZE


@given(arches, ints, st.lists(words, max_size=6))
def test_every_call_gets_a_known_verdict(arch: str, number: int, args: list[int]) -> None:
    assert judge(arch, number, *args) in {ALLOW, REFUSE, ABSENT, NO_FAMILY}


@given(arches, st.sampled_from(sorted(seccomp.REFUSED)), st.lists(words, max_size=6))
def test_no_argument_makes_a_refused_call_allowed(arch: str, call: str, args: list[int]) -> None:
    if call in TABLES[arch]:
        assert judge(arch, call, *args) == REFUSE


@given(arches, words)
def test_clone_is_refused_exactly_for_namespace_flags(arch: str, flags: int) -> None:
    assert (judge(arch, "clone", flags) == REFUSE) == bool(flags & 0x7E02_0000)


@given(ints)
def test_code_of_any_other_architecture_is_killed(audit_arch: int) -> None:
    for arch in TABLES:
        if audit_arch != AUDIT_ARCH[arch]:
            assert verdict(container_filter(arch), audit_arch, 0) == KILL_PROCESS


def test_unknown_architecture_is_an_error() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        container_filter("riscv64")


def test_this_machine_is_the_default() -> None:
    if os.uname().machine not in TABLES:
        pytest.skip(f"no table for {os.uname().machine}")
    assert container_filter() == container_filter(os.uname().machine)
