"""Whether a directory is fit to hold state: locks, shared memory and syncs lie on network file systems."""

from __future__ import annotations

import ctypes
import os

#: statfs(2) magic numbers of file systems whose locks, mmap or fsync cannot be relied on.
NETWORK = {
    0x6969: "NFS",
    0x517B: "SMB",  # smbfs
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",  # what the kernel's cifs reports for SMB 2 and 3
    0x01021997: "9p",  # also what WSL shows Windows drives as; its mmap is not coherent
    0x5346414F: "AFS",
    0x6B414653: "kAFS",
    0x73757245: "Coda",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
}
#: FUSE tells its kind only in the mount table. Local ones (mergerfs, ntfs-3g) are as good as what is below.
_FUSE = 0x65735546
NETWORK_FUSE = frozenset(
    f"fuse.{name}"
    for name in (
        "sshfs",
        "s3fs",
        "gcsfuse",
        "rclone",
        "glusterfs",
        "ceph-fuse",
        "davfs2",
        "curlftpfs",
        "juicefs",
    )
)


def refusal(directory: str) -> str:
    """Why no state may be kept there, in one line; empty for a local disk."""
    kind = network_kind(directory)
    if not kind:
        return ""
    return (
        f"{directory} is on a network file system ({kind}), where what is synced can be lost: "
        "set SQUALL_STATE to a directory on a local disk"
    )


def network_kind(directory: str) -> str:
    """The kind of network file system; empty for a local one, and where the host cannot tell."""
    magic = _magic(directory)
    if magic == _FUSE:
        kind = mount_type(os.path.realpath(directory), _mount_table())
        return kind if kind in NETWORK_FUSE else ""
    return NETWORK.get(magic, "")


def mount_type(path: str, table: str) -> str:
    """The type of the mount that holds a real path, by the text of mountinfo (proc(5)); the last one wins."""
    best, kind = "", ""
    for line in table.splitlines():
        left, _, right = line.partition(" - ")
        target = left.split()[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="replace")
        inside = path == target or path.startswith(target.rstrip("/") + "/")
        if inside and len(target) >= len(best):
            best, kind = target, right.split()[0]
    return kind


def _mount_table() -> str:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _magic(directory: str) -> int:
    """`f_type`, the first word of struct statfs on all of Linux' 64-bit machines; -1 where there is none."""
    statfs = getattr(ctypes.CDLL(None, use_errno=True), "statfs", None)
    if statfs is None:
        return -1
    buffer = ctypes.create_string_buffer(512)
    if statfs(os.fsencode(directory), buffer) != 0:
        return -1
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
