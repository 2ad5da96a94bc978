"""What a container may ask of the kernel: a seccomp filter, as a program of classic BPF.

It allows what ordinary programs need and refuses what has no place in a container: making namespaces and
mounts, looking into other processes, parts of the kernel with a history of holes, and system calls that are
newer than the filter. Docker's default profile is the model; where this one differs, a comment says so.
Layouts: linux/seccomp.h, linux/filter.h, linux/audit.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from typing import NamedTuple

from squall.runtime.linux.syscalls import checked, libc, prctl
from squall.runtime.syscalls import NEWEST, TABLES

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Verdicts (SECCOMP_RET_*).
ALLOW = 0x7FFF_0000
KILL_PROCESS = 0x8000_0000
_ERRNO = 0x0005_0000
REFUSE = _ERRNO | errno.EPERM
#: As if the kernel did not have it: programs then do without.
ABSENT = _ERRNO | errno.ENOSYS
NO_FAMILY = _ERRNO | errno.EAFNOSUPPORT

#: CLONE_NEW* of namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. (NEWTIME is no flag of
#: clone(2): its bit is part of the exit signal there.)
NAMESPACE_FLAGS = 0x7E02_0000

#: What a container may not ask for at all. Namespaces and mounts: those are ours to make. chroot stays
#: allowed: it needs a capability, which the container has in its own user namespace only.
_NAMESPACES = ("setns", "unshare")
_MOUNTS = (
    *("mount", "umount2", "pivot_root", "open_tree", "open_tree_attr", "move_mount"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"),
)
#: Other processes, even one's own children: a template's children share its memory layout. (Docker allows
#: ptrace.)
_OTHER_PROCESSES = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp"),
    *("move_pages", "migrate_pages"),
)
#: Interfaces with a history of holes, or that outgrow the container (keyrings are shared by uid, perf sees
#: the host). mbind and set_mempolicy stay allowed: numeric libraries use them, for their own memory.
_RISKY = (
    *("bpf", "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "perf_event_open"),
    *("add_key", "keyctl", "request_key", "fanotify_init", "open_by_handle_at"),
    *("lookup_dcookie", "nfsservctl", "uselib", "modify_ldt"),
)
#: The machine itself.
_MACHINE = (
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot"),
    *("swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog", "vhangup", "iopl", "ioperm"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
)
REFUSED = (*_NAMESPACES, *_MOUNTS, *_OTHER_PROCESSES, *_RISKY, *_MACHINE)

#: Typing into a terminal that one shares with others.
TIOCSTI, TIOCLINUX = 0x5412, 0x541C

#: Everything else (AF_ALG, AF_VSOCK, AF_PACKET, AF_XDP, AF_KEY, AF_BLUETOOTH, ...) is kernel code that
#: ordinary programs do not use. Netlink is how libc reads the addresses of interfaces.
SOCKET_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)

#: Asking which it is, and being an ordinary Linux process. No READ_IMPLIES_EXEC, no ADDR_NO_RANDOMIZE.
PERSONALITIES = (0, 0xFFFF_FFFF)

# Instructions: class, size and mode in one code (BPF_*).
_LOAD = 0x20  # LD | W | ABS
_JUMP_EQUAL = 0x15  # JMP | JEQ | K
_JUMP_GREATER = 0x25  # JMP | JGT | K
_JUMP_SET = 0x45  # JMP | JSET | K
_RETURN = 0x06  # RET | K

# Offsets in struct seccomp_data.
_NUMBER, _ARCH, _ARGS = 0, 4, 16

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2


class Instruction(NamedTuple):
    """struct sock_filter."""

    code: int
    if_true: int
    if_false: int
    value: int


INSTRUCTION = struct.Struct("<HBBI")


def container_filter(arch: str | None = None) -> bytes:
    """The program for containers on `arch` (a machine name of uname(2); this machine's if None).

    Raises `ValueError` for an architecture that we have no table for.
    """
    arch = arch or os.uname().machine
    if arch not in TABLES:
        raise ValueError(f"no system call filter for {arch}: Squall confines on {' and '.join(TABLES)} only")
    numbers = TABLES[arch]
    program = [
        *_prologue(AUDIT_ARCH[arch]),
        # libc falls back to clone, whose flags a filter can see.
        *_when(numbers["clone3"], [_return(ABSENT)]),
        *_when(numbers["clone"], _refuse_flags(NAMESPACE_FLAGS)),
        *_when(numbers["ioctl"], _by_argument(1, (TIOCSTI, TIOCLINUX), REFUSE, ALLOW)),
        *_when(numbers["socket"], _by_argument(0, SOCKET_FAMILIES, ALLOW, NO_FAMILY)),
        *_when(numbers["personality"], _by_argument(0, PERSONALITIES, ALLOW, REFUSE)),
    ]
    for name in REFUSED:
        if name in numbers:
            program += _when(numbers[name], [_return(REFUSE)])
    program.append(_return(ALLOW))
    return b"".join(INSTRUCTION.pack(*i) for i in program)


def install(program: bytes) -> None:
    """Filter the system calls of the calling thread and its future children, for good. Raises `OSError`.

    It sets no_new_privs as well: without it, a filter could be used to confuse a setuid program.
    """
    prctl(_PR_SET_NO_NEW_PRIVS, 1, "prctl(PR_SET_NO_NEW_PRIVS)")
    text = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // INSTRUCTION.size, ctypes.addressof(text))
    zero = ctypes.c_ulong(0)
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    checked(libc.prctl(_PR_SET_SECCOMP, mode, ctypes.byref(header), zero, zero), "prctl(PR_SET_SECCOMP)")


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _prologue(audit_arch: int) -> list[Instruction]:
    """Kill what calls by another architecture's table (32-bit code), then load the number.

    What is newer than the filter does not exist. That takes in x32, whose numbers have bit 30.
    """
    return [
        Instruction(_LOAD, 0, 0, _ARCH),
        Instruction(_JUMP_EQUAL, 1, 0, audit_arch),
        _return(KILL_PROCESS),
        Instruction(_LOAD, 0, 0, _NUMBER),
        Instruction(_JUMP_GREATER, 0, 1, NEWEST),
        _return(ABSENT),
    ]


def _when(number: int, then: list[Instruction]) -> list[Instruction]:
    """`then` must return on all ways: it may change the loaded value."""
    return [Instruction(_JUMP_EQUAL, 0, len(then), number), *then]


def _refuse_flags(mask: int) -> list[Instruction]:
    return [_load_argument(0), Instruction(_JUMP_SET, 0, 1, mask), _return(REFUSE), _return(ALLOW)]


def _by_argument(index: int, values: tuple[int, ...], if_one: int, otherwise: int) -> list[Instruction]:
    tests = [i for v in values for i in (Instruction(_JUMP_EQUAL, 0, 1, v), _return(if_one))]
    return [_load_argument(index), *tests, _return(otherwise)]


def _load_argument(index: int) -> Instruction:
    """The lower half of an argument: all of what the kernel looks at, where the parameter is an int."""
    return Instruction(_LOAD, 0, 0, _ARGS + 8 * index)


def _return(verdict: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, verdict)
