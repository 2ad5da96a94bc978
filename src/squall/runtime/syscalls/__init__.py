"""Numbers of system calls by architecture: only what the seccomp filters name.

A test compares them with the kernel's headers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.runtime.syscalls import aarch64, x86_64

if TYPE_CHECKING:
    from collections.abc import Mapping

#: By the machine name of uname(2).
TABLES: Mapping[str, Mapping[str, int]] = {"x86_64": x86_64.NUMBERS, "aarch64": aarch64.NUMBERS}

#: The newest system call that the filters were written with: `file_setattr` of kernel 6.17. From 424 on,
#: numbers are the same on all architectures.
NEWEST = 469
