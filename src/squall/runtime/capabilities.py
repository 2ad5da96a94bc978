"""What root of a container may do: capabilities, in its own user namespace only (capabilities(7))."""

from __future__ import annotations

import ctypes
import errno
import struct

from squall.runtime.linux.syscalls import checked, libc

CHOWN = 0
DAC_OVERRIDE = 1
FOWNER = 3
FSETID = 4
KILL = 5
SETGID = 6
SETUID = 7
SETPCAP = 8
NET_BIND_SERVICE = 10
SYS_CHROOT = 18
AUDIT_WRITE = 29
SETFCAP = 31


def mask_of(*capabilities: int) -> int:
    return sum(1 << c for c in set(capabilities))


#: Docker's default set without NET_RAW (forged packets) and MKNOD (no use in a user namespace). With it,
#: package managers, chown, and servers that drop their privileges work.
CONTAINER_CAPS: int = mask_of(
    *(CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP),
    *(NET_BIND_SERVICE, SYS_CHROOT, AUDIT_WRITE, SETFCAP),
)

_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x2008_0522
_MAX_CAPABILITIES = 64


def drop_bounding(keep_mask: int) -> None:
    """Make the capabilities outside `keep_mask` out of reach for good, even of root by exec.

    Needs SETPCAP, so it goes before `set_caps`. Raises `OSError`.
    """
    for capability in range(_MAX_CAPABILITIES):
        if keep_mask >> capability & 1:
            continue
        if _bounding(_PR_CAPBSET_DROP, capability) < 0:
            if ctypes.get_errno() == errno.EINVAL and _bounding(_PR_CAPBSET_READ, capability) < 0:
                return  # the kernel has no more
            checked(-1, f"cannot drop capability {capability}")


def permitted() -> int:
    """The permitted set of the calling process."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next(int(line.split()[1], 16) for line in status if line.startswith("CapPrm:"))


def set_caps(mask: int) -> None:
    """Permitted and effective become `mask`; inheritable and ambient become empty. Raises `OSError`."""
    zero = ctypes.c_ulong(0)
    clear = ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL)
    checked(libc.prctl(_PR_CAP_AMBIENT, clear, zero, zero, zero), "cannot clear the ambient capabilities")
    low, high = mask & 0xFFFF_FFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("<II", _CAPABILITY_VERSION_3, 0))
    # Twice (lower and upper half): effective, permitted, inheritable.
    data = ctypes.create_string_buffer(struct.pack("<IIIIII", low, low, 0, high, high, 0))
    checked(libc.capset(header, data), "capset")


def _bounding(option: int, capability: int) -> int:
    zero = ctypes.c_ulong(0)
    result: int = libc.prctl(option, ctypes.c_ulong(capability), zero, zero, zero)
    return result
