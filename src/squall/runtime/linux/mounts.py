"""The mount API by descriptors: file systems and trees, made detached and attached where they belong."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from typing import TYPE_CHECKING

from squall.runtime.linux import syscalls
from squall.runtime.linux.syscalls import checked, libc, syscall

if TYPE_CHECKING:
    from types import TracebackType

# Attributes of a mount (MOUNT_ATTR_*).
RDONLY = 0x1
NOSUID = 0x2
NODEV = 0x4
NOEXEC = 0x8
IDMAP = 0x10_0000

# Flags of mount(2).
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_FROM_EMPTY = 0x4
_MOVE_TO_EMPTY = 0x40
_FSCONFIG_FLAG, _FSCONFIG_STRING, _FSCONFIG_FD, _FSCONFIG_CREATE = 0, 1, 5, 6
_MNT_DETACH = 2

# How openat2 resolves a path.
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10


class FileSystem:
    """A file system under configuration (fsopen): set options, then `mount` it detached."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fd = syscall(syscalls.FSOPEN, kind.encode(), 1, what=f"fsopen {kind}")

    def __enter__(self) -> FileSystem:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)

    def set(self, key: str, value: str | int | None = None) -> None:
        """Set an option: a string, a descriptor (an int), or a flag."""
        if value is None:
            self._config(_FSCONFIG_FLAG, key)
        elif isinstance(value, int):
            self._config(_FSCONFIG_FD, key, aux=value)
        else:
            self._config(_FSCONFIG_STRING, key, value.encode())

    def mount(self, attributes: int) -> int:
        self._config(_FSCONFIG_CREATE, None)
        return syscall(syscalls.FSMOUNT, self.fd, 1, attributes, what=f"fsmount {self.kind}")

    def _config(self, command: int, key: str | None, value: bytes | None = None, aux: int = 0) -> None:
        name = key.encode() if key else None
        try:
            syscall(
                syscalls.FSCONFIG, self.fd, command, name, value, aux, what=f"{self.kind} {key or 'create'}"
            )
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}{self._complaint()}") from None

    def _complaint(self) -> str:
        """What the kernel says about the failure, where it says something."""
        lines = []
        with contextlib.suppress(OSError):
            while True:
                lines.append(os.read(self.fd, 1024).decode(errors="replace").strip())
        return f" ({'; '.join(lines)})" if lines else ""


def new_filesystem(kind: str, attributes: int, **options: str | int | None) -> int:
    """Mount a file system detached; the descriptor is the mount."""
    with FileSystem(kind) as fs:
        for key, value in options.items():
            fs.set(key, value)
        return fs.mount(attributes)


def clone_tree(directory: int, path: str = "", *, recursive: bool = False) -> int:
    """A detached copy (a bind mount) of what `path` beneath the descriptor names; no symlink is followed."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (0x100 if path else _AT_EMPTY_PATH)  # 0x100: SYMLINK_NOFOLLOW
    if recursive:
        flags |= _AT_RECURSIVE
    return syscall(syscalls.OPEN_TREE, directory, path.encode(), flags, what=f"open_tree {path}")


def set_attributes(mount: int, attributes: int, *, userns: int = 0, recursive: bool = False) -> None:
    """Set attributes on a detached mount and cut it off from what happens at its source (private)."""
    wanted = attributes | (IDMAP if userns else 0)
    buffer = ctypes.create_string_buffer(struct.pack("<QQQQ", wanted, 0, MS_PRIVATE, userns))
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    syscall(syscalls.MOUNT_SETATTR, mount, b"", flags, buffer, 32, what="mount_setattr")


def attach(mount: int, directory: int, path: str = "") -> None:
    """Attach a detached mount at `path` beneath the descriptor, or at the descriptor itself."""
    flags = _MOVE_FROM_EMPTY | (0 if path else _MOVE_TO_EMPTY)
    syscall(syscalls.MOVE_MOUNT, mount, b"", directory, path.encode(), flags, what=f"move_mount {path}")


def attach_at(mount: int, path: str) -> None:
    attach(mount, _AT_FDCWD, path)


def mount_legacy(kind: str, target: str, flags: int, data: str) -> None:
    """mount(2), for what the descriptor API cannot do on older kernels."""
    result = libc.mount(kind.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    checked(result, f"mount {kind}")


def set_propagation(flags: int) -> None:
    """Change the propagation of every mount of this namespace (MS_PRIVATE, MS_SLAVE)."""
    checked(libc.mount(None, b"/", None, ctypes.c_ulong(flags | MS_REC), None), "mount propagation")


def detach(path: str) -> None:
    checked(libc.umount2(path.encode(), _MNT_DETACH), f"umount {path}")


def pivot_root_here() -> None:
    """Make the current directory (a mount) the root and let go of the old one."""
    syscall(syscalls.old_number("pivot_root"), b".", b".", what="pivot_root")
    detach(".")
    os.chdir("/")


def open_resolved(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2: open `path` beneath a descriptor under the rules of `resolve`. Always O_CLOEXEC."""
    how = ctypes.create_string_buffer(struct.pack("<QQQ", flags | os.O_CLOEXEC, mode, resolve), 24)
    return syscall(syscalls.OPENAT2, directory, path.encode(), how, 24, what=f"open {path}")
