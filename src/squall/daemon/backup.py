"""Backups of what the server keeps: its database as of one moment, and the blobs that it speaks of.

A backup is a tar file: `squall-backup.json`, then files below `server/`. It is made also while the daemon
runs. Blobs are named by their content and never change, so those that come while it is made do no harm.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from squall import __version__
from squall.daemon import state as states
from squall.exception import ConflictError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
_ABOUT = "squall-backup.json"
_DATABASE = "db.sqlite"
_LIVE = (_DATABASE, f"{_DATABASE}-wal", f"{_DATABASE}-shm")


def backup(state: str, target: str) -> int:
    """Write a backup to a file that is not there yet; its bytes. Raises InvalidError, ConflictError."""
    server = Path(state, "server")
    if not (server / _DATABASE).exists():
        raise InvalidError(f"There is no database in {server}: name the state directory with --state.")
    if os.path.exists(target):
        raise ConflictError(f"{target} exists already: name a file that does not.")
    unfinished = f"{target}.part"
    try:
        with open(os.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                _write(tar, server)
            file.flush()
            os.fsync(file.fileno())
        os.rename(unfinished, target)
    except (OSError, sqlite3.Error) as error:
        Path(unfinished).unlink(missing_ok=True)
        raise InvalidError(f"No backup was made: {_reason(error)}.") from None
    return os.path.getsize(target)


def restore(state: str, source: str) -> None:
    """Make the state of a backup that of this directory, which must have none.

    The server itself judges the database first, and brings it up to date. Raises InvalidError, ConflictError.
    """
    lock = states.lock(state)
    try:
        server = Path(state, "server")
        if server.exists() and any(server.iterdir()):
            raise ConflictError(f"{server} has a state already: move it away, or name another --state.")
        with tempfile.TemporaryDirectory(prefix="restore-", dir=state) as folder:
            _extract(source, Path(folder))
            _check(Path(folder, "server"))
            if server.exists():
                server.rmdir()
            os.rename(Path(folder, "server"), server)
    except OSError as error:
        raise InvalidError(f"Nothing was restored: {_reason(error)}.") from None
    finally:
        os.close(lock)


def _write(tar: tarfile.TarFile, server: Path) -> None:
    about = {"format": FORMAT, "version": __version__, "created": time.time()}
    text = json.dumps(about).encode()
    entry = tarfile.TarInfo(_ABOUT)
    entry.size = len(text)
    tar.addfile(entry, BytesIO(text))
    with _blobs_stay(server), tempfile.TemporaryDirectory(prefix="squall-backup-") as folder:
        copy = os.path.join(folder, _DATABASE)
        with closing(sqlite3.connect(server / _DATABASE)) as live, closing(sqlite3.connect(copy)) as target:
            live.backup(target)
        tar.add(copy, f"server/{_DATABASE}", filter=_anonymous)
        for path in _files(server):
            with suppress(FileNotFoundError):  # it was forgotten meanwhile
                tar.add(path, f"server/{path.relative_to(server)}", filter=_anonymous)


@contextmanager
def _blobs_stay(server: Path) -> Iterator[None]:
    """The server deletes none in the block (see `store.disk`): what the copy of the database names must be
    there to be copied.
    """
    try:
        directory = os.open(server / "blobs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:  # there are none
        yield
        return
    try:
        fcntl.flock(directory, fcntl.LOCK_SH)
        yield
    finally:
        os.close(directory)


def _files(server: Path) -> Iterator[Path]:
    """All but the live database, sockets and links."""
    for base, _, names in os.walk(server):
        for path in (Path(base, name) for name in names):
            live = path.parent == server and path.name in _LIVE
            if not live and path.is_file() and not path.is_symlink():
                yield path


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _extract(source: str, folder: Path) -> None:
    """Regular files below `server/` alone, with our own modes."""
    try:
        with tarfile.open(source, "r:") as tar:
            first = tar.next()
            content = tar.extractfile(first) if first is not None and first.name == _ABOUT else None
            if content is None:
                raise InvalidError(f"{source} is no backup of Squall's.")
            if json.load(content).get("format") != FORMAT:
                raise InvalidError(f"{source} was made by a newer Squall: upgrade this one.")
            for entry in tar:
                _extract_one(tar, entry, folder)
    except (tarfile.TarError, ValueError, AttributeError):
        raise InvalidError(f"{source} is damaged, or no backup of Squall's.") from None


def _extract_one(tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    if entry.name == _ABOUT:
        return
    path = PurePosixPath(entry.name)
    if not entry.isreg() or path.is_absolute() or ".." in path.parts or path.parts[0] != "server":
        raise ValueError(entry.name)
    target = folder / path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = tar.extractfile(entry)
    assert content is not None
    with content, open(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        shutil.copyfileobj(content, file)
        os.fsync(file.fileno())


def _check(server: Path) -> None:
    """Raises InvalidError with what the server says."""
    command = [sys.executable, "-m", "squall.server", "--state", str(server), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        raise InvalidError(f"The backup cannot be used: {lines[-1].removeprefix('squall server: ')}")


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
