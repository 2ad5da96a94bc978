"""Processes and namespaces: clone, setns, user namespaces, pidfds, what a process shows of itself."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from squall.runtime import capabilities
from squall.runtime.linux import syscalls
from squall.runtime.linux.syscalls import checked, libc, prctl, syscall

if TYPE_CHECKING:
    from collections.abc import Iterator

NEWNS = 0x0002_0000
NEWCGROUP = 0x0200_0000
NEWUTS = 0x0400_0000
NEWIPC = 0x0800_0000
NEWUSER = 0x1000_0000
NEWPID = 0x2000_0000
NEWNET = 0x4000_0000
#: The new process becomes a sibling of its maker, so that the maker may end.
CLONE_PARENT = 0x0000_8000
_CLONE_PIDFD = 0x1000
_CLONE_INTO_CGROUP = 0x2_0000_0000

_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x41


def unshare(flags: int) -> None:
    checked(libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(fd: int, kind: int) -> None:
    checked(libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), f"setns({kind:#x})")


def clone(flags: int) -> int:
    """Fork with `flags`. Returns 0 in the child. For a process of one thread only: no fork hooks run."""
    number = syscalls.old_number("clone")
    return syscall(number, flags | signal.SIGCHLD, 0, 0, 0, 0, what=f"clone({flags:#x})")


def clone_watched(flags: int) -> tuple[int, int]:
    """`clone`: the pid and a pidfd, valid even if the child has ended. In the child, the pidfd is -1."""
    pidfd = ctypes.c_int(-1)
    number = syscalls.old_number("clone")
    all_flags = flags | _CLONE_PIDFD | signal.SIGCHLD
    pid = syscall(number, all_flags, 0, ctypes.byref(pidfd), 0, 0, what=f"clone({flags:#x})")
    return pid, pidfd.value


def clone_into(flags: int, cgroup: int) -> tuple[int, int]:
    """`clone_watched`, with the child born in the version 2 control group whose directory is given."""
    pidfd = ctypes.c_int(-1)
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    # set_tid_size, cgroup.
    all_flags = flags | _CLONE_PIDFD | _CLONE_INTO_CGROUP
    fields = (all_flags, ctypes.addressof(pidfd), 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, cgroup)
    arguments = ctypes.create_string_buffer(struct.pack("<11Q", *fields), 88)
    pid = syscall(syscalls.CLONE3, arguments, 88, what=f"clone3({flags:#x})")
    return pid, pidfd.value


def send_signal(pidfd: int, number: int) -> None:
    """Signal a process by its descriptor. One that has ended already is fine."""
    try:
        syscall(syscalls.PIDFD_SEND_SIGNAL, pidfd, number, None, 0, what="pidfd_send_signal")
    except ProcessLookupError:
        return


def pidfd_open(pid: int) -> int:
    return syscall(syscalls.PIDFD_OPEN, pid, 0, what="pidfd_open")


def pid_of(pidfd: int) -> int:
    """The pid behind a pidfd as seen from here; -1 when the process is gone."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as info:
        for line in info:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    raise OSError(9, f"descriptor {pidfd} is no pidfd")


def wait_ended(pidfd: int, seconds: float) -> bool:
    """Whether the process ended within `seconds`."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(int(seconds * 1000)))


def start_time(pid: int) -> int | None:
    """The start of a process in clock ticks since boot: with the pid, its identity. None when gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return int(stat.read().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def of_session(leader: int) -> Iterator[int]:
    """Those of a session that have not ended, as /proc shows them here."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
                state, _parent, _group, session = stat.read().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) == leader and state not in "ZX":
            yield int(name)


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor that is not in `keep`."""
    first = 0
    for fd in sorted(keep):
        if fd > first:
            syscall(syscalls.CLOSE_RANGE, first, fd - 1, 0, what="close_range")
        first = fd + 1
    syscall(syscalls.CLOSE_RANGE, first, 0xFFFF_FFFF, 0, what="close_range")


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that made it ends."""
    prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def hide_memory() -> None:
    """Make the process undumpable: its /proc files belong to the host's root, nobody of U may trace it."""
    prctl(syscalls.PR_SET_DUMPABLE, 0)


def set_title(title: str) -> None:
    """Show `title` in ps, in place of the command line (which names paths of the host)."""
    prctl(syscalls.PR_SET_NAME, title.encode()[:15])
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as stat:
        fields = stat.read().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, fields 48 and 49 of proc(5)
    text = title.encode()[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))


def set_fs_ids(ids: int) -> None:
    """The user and group that new files get, without becoming that user. It takes an id of the namespace."""
    libc.setfsgid(ctypes.c_uint(ids))
    libc.setfsuid(ctypes.c_uint(ids))


@contextmanager
def acting_as(ids: int) -> Iterator[None]:
    """Make files as user and group `ids` of this namespace, with all of root's capabilities nevertheless.

    What is mounted meanwhile keeps these credentials: an overlay makes files by its mounter's.
    """
    permitted = capabilities.permitted()
    set_fs_ids(ids)
    try:
        capabilities.set_caps(permitted)  # leaving uid 0 has dropped some from the effective set
        yield
    finally:
        set_fs_ids(0)


def loopback_up() -> None:
    """Bring the loopback of this network namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP_RUNNING))


def user_namespace(base: int, size: int) -> int:
    """A descriptor of a new user namespace whose ids from 0 to `size` are the host's from `base` on."""
    ready_read, ready_write = os.pipe()
    hold_read, hold_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _hold_user_namespace(ready_write, hold_read, hold_write)
    os.close(ready_write)
    os.close(hold_read)
    try:
        answer = os.read(ready_read, 256)
        if answer != b"+":
            raise OSError(1, f"no user namespace: {answer.decode(errors='replace') or 'the maker died'}")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write(f"0 {base} {size}")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(hold_write)
        os.close(ready_read)
        os.waitpid(pid, 0)


def _hold_user_namespace(ready: int, hold: int, hold_write: int) -> None:
    try:
        os.close(hold_write)
        unshare(NEWUSER)
        os.write(ready, b"+")
        os.read(hold, 1)
    except OSError as error:
        os.write(ready, str(error.strerror).encode())
    finally:
        os._exit(0)
