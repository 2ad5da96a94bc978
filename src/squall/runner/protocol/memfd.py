"""Sealed memory files: how large payloads cross between agent and runner without a copy through a socket."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: linux/fcntl.h and linux/memfd.h; by number because not every build of Python has the names.
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE = 1, 2, 4, 8
MFD_CLOEXEC, MFD_ALLOW_SEALING = 1, 2
#: What a receiver insists on: neither size nor content can change any more.
FROZEN = SEAL_SHRINK | SEAL_GROW | SEAL_WRITE

_SYSCALL = {"x86_64": 319, "aarch64": 279}


def possible() -> bool:
    """Whether this system has such files: a client may run anywhere."""
    return sys.platform == "linux"


def create() -> int:
    """An empty memory file that can be sealed."""
    flags = MFD_CLOEXEC | MFD_ALLOW_SEALING
    make = getattr(os, "memfd_create", None)  # pythons built on an old libc lack it
    return int(make("squall", flags)) if make is not None else _create_by_number(flags)


def _create_by_number(flags: int) -> int:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(_SYSCALL[os.uname().machine], b"squall", flags)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "memfd_create failed")
    return fd


def write(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def seal(fd: int) -> None:
    from fcntl import fcntl  # not on Windows

    fcntl(fd, F_ADD_SEALS, FROZEN | SEAL_SEAL)


def freeze_size(fd: int) -> None:
    """What is in it may change, its size not: nobody who maps it can be hurt."""
    from fcntl import fcntl  # not on Windows

    fcntl(fd, F_ADD_SEALS, SEAL_SHRINK | SEAL_GROW | SEAL_SEAL)


def of(pieces: Iterable[bytes | memoryview]) -> int:
    """A sealed memory file with this content; the caller owns the descriptor."""
    fd = create()
    try:
        for piece in pieces:
            write(fd, piece)
        seal(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def frozen_size(fd: int) -> int | None:
    """The size in bytes of a memory file that can no longer change; None for any other file."""
    from fcntl import fcntl

    try:
        seals = fcntl(fd, F_GET_SEALS)
    except OSError:
        return None
    return os.fstat(fd).st_size if seals & FROZEN == FROZEN else None
