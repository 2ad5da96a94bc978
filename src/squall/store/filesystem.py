"""Whether a directory is fit to hold the database: SQLite's locks and syncs lie on network file systems."""

from __future__ import annotations

from pathlib import Path

from squall.store.base import StoreError

#: Types in /proc/mounts whose locks or syncs cannot be relied on.
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "fuse.s3fs"})


def refuse_network_file_system(directory: Path, mounts: Path = Path("/proc/self/mounts")) -> None:
    """Raises StoreError when `directory` lies on a file system of NETWORK."""
    kind = file_system(directory.resolve(), mounts)
    if kind in NETWORK:
        raise StoreError(f"{directory} is on {kind}: set SQUALL_STATE to a directory on a local disk")


def file_system(directory: Path, mounts: Path) -> str:
    """The type of the mount that holds `directory`; empty where the host does not tell."""
    best, kind = -1, ""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        point, fs_type = line.split()[1:3]
        where = Path(point.replace("\\040", " "))
        if len(where.parts) >= best and (where == directory or where in directory.parents):
            best, kind = len(where.parts), fs_type
    return kind
