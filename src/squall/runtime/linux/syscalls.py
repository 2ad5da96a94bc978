"""The door to libc: calls that raise `OSError` with what was tried, and the numbers that libc does not wrap.

Numbers from 424 on are the same on every architecture; the few older ones are in a table.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

_OLD: dict[str, dict[str, int]] = {
    "x86_64": {"clone": 56, "pivot_root": 155},
    "aarch64": {"clone": 220, "pivot_root": 41},
}
PIDFD_SEND_SIGNAL = 424
OPEN_TREE = 428
MOVE_MOUNT = 429
FSOPEN = 430
FSCONFIG = 431
FSMOUNT = 432
PIDFD_OPEN = 434
CLONE3 = 435
CLOSE_RANGE = 436
OPENAT2 = 437
MOUNT_SETATTR = 442

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15


def old_number(name: str) -> int:
    """The number of a call that differs by architecture. Raises `OSError` (ENOSYS) on other ones."""
    machine = os.uname().machine
    try:
        return _OLD[machine][name]
    except KeyError:
        raise OSError(38, f"{name}: no system call table for {machine}") from None


def checked(result: int, what: str) -> int:
    """`result`, or the `OSError` that errno tells, named by `what`."""
    if result >= 0:
        return result
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")


def syscall(number: int, *args: Any, what: str) -> int:
    """Make a system call. Integers are widened to `long`; bytes, buffers and None pass as pointers."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return checked(libc.syscall(ctypes.c_long(number), *wide), what)


def prctl(option: int, value: int | bytes, what: str = "prctl") -> int:
    arg = ctypes.c_ulong(value) if isinstance(value, int) else value
    zero = ctypes.c_ulong(0)
    return checked(libc.prctl(option, arg, zero, zero, zero), what)
