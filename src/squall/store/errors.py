"""What the operating system and SQLite say, as one line that tells a user what to do."""

from __future__ import annotations

import errno
import os
import sqlite3

from squall import filesystem
from squall.store.base import StoreError

#: With less than this many bytes left, an error that could be anything is a full disk's.
_FULL = 1 << 20


def store_error(error: OSError | sqlite3.Error, path: str | os.PathLike[str]) -> StoreError:
    """`path` is the file or directory that was worked on."""
    where = os.fspath(path)
    return StoreError(_of_system(error, where) if isinstance(error, OSError) else _of_sqlite(error, where))


def _of_system(error: OSError, path: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(path)
    if error.errno == errno.EROFS:
        return _read_only(path)
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to use {path}: give it to the server's user, or set SQUALL_STATE"
    if error.errno == errno.EIO:
        return _failing(path)
    return f"cannot use {path}: {error.strerror or error}; check the disk, or set SQUALL_STATE"


def _of_sqlite(error: sqlite3.Error, path: str) -> str:
    """By the text: codes come with Python 3.11 only."""
    text = str(error)
    if isinstance(error, sqlite3.IntegrityError):
        return f"the record was refused, it contradicts what is stored: {text}"
    if "is full" in text:
        return _full(path)
    if "readonly" in text:
        return _read_only(path)
    if "malformed" in text or "not a database" in text:
        return damaged(path, text)
    if "locked" in text:
        return f"{path} is in use by another process: stop the other server"
    if "disk I/O error" in text or "unable to open" in text:
        return _ambiguous(path)
    return f"the database {path} failed: {text}"


def refuse_network(directory: str) -> None:
    """Raises StoreError when the directory lies on a network file system."""
    if why := filesystem.refusal(directory):
        raise StoreError(why)


def damaged(path: str, why: str) -> str:
    return f"the database {path} is damaged ({why}): restore a backup, or move it away to start afresh"


def _full(path: str) -> str:
    return f"the disk that holds {path} is full: free some space; nothing that was acknowledged is lost"


def _read_only(path: str) -> str:
    return f"{path} is read-only: make it writable, or set SQUALL_STATE to another directory"


def _failing(path: str) -> str:
    return f"the disk that holds {path} fails: check it (dmesg), or set SQUALL_STATE to another directory"


def _ambiguous(path: str) -> str:
    """SQLite has one word for many causes; the file system may know more."""
    try:
        disk = os.statvfs(os.path.dirname(path) or ".")
    except OSError:
        return _failing(path)
    if disk.f_flag & os.ST_RDONLY:
        return _read_only(path)
    if disk.f_bavail * disk.f_frsize < _FULL or (disk.f_files > 0 and disk.f_favail == 0):
        return _full(path)
    return _failing(path)
