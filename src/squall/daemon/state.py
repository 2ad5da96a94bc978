"""The state directory: who owns which part of it, and what may not be there."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from squall import filesystem
from squall.client import daemon_record
from squall.exception import ConflictError, InvalidError

if TYPE_CHECKING:
    from squall.daemon.view import Identity

#: A log larger than this is put aside at the start (bytes).
LOG_LIMIT = 10 << 20
#: How long what an earlier daemon left may take to die of SIGKILL (seconds).
_DEATH_S = 10.0


def check(state: str) -> None:
    """Raises InvalidError for a place where state must not be."""
    if why := filesystem.refusal(state):
        raise InvalidError(f"The state directory {why}.")


def prepare(state: str, identity: Identity | None) -> None:
    """Make the directories, each for the one who works there. Raises InvalidError."""
    try:
        if identity is not None:
            # Server and agent pass through it and nobody else: layers hold set-uid programs of tenants, which
            # are root's on this side.
            os.chown(state, -1, identity.gid)
            os.chmod(state, 0o710)  # noqa: S103 - its group is the identity alone
        for name, owner in (("logs", None), ("launcher", None), ("server", identity), ("node", identity)):
            _make(os.path.join(state, name), owner)
        for name in ("server", "launcher", "node"):
            _rotate(daemon_record.log_path(state, name))
    except OSError as error:
        raise InvalidError(f"Cannot use the state directory {state}: {error.strerror}.") from None


def _make(path: str, owner: Identity | None) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)
    uid, gid = (owner.uid, owner.gid) if owner else (os.geteuid(), os.getegid())
    before = os.stat(path)
    if before.st_uid != uid:
        _give(path, before.st_uid, uid, gid)


def _give(top: str, old: int, uid: int, gid: int) -> None:
    """All that the earlier owner had there, and nothing else: layers belong to root whoever made them.

    The top comes last, so that a start which is cut short is made good by the next one.
    """
    for base, folders, files in os.walk(top, topdown=False):
        for path in (*(os.path.join(base, name) for name in (*folders, *files)), base):
            if os.lstat(path).st_uid == old and (old != 0 or not path.startswith(f"{top}/layers/")):
                os.chown(path, uid, gid, follow_symlinks=False)


def _rotate(path: str) -> None:
    if os.path.exists(path) and os.path.getsize(path) > LOG_LIMIT:
        os.replace(path, f"{path}.1")


def lock(state: str) -> int:
    """Take the lock of the state directory for as long as this process lives. Raises ConflictError."""
    from squall.client import embedded

    os.makedirs(state, mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
    descriptor = embedded.lock(state)
    if descriptor is None:
        record = daemon_record.read(state)
        who = f"process {record.process.pid}" if record else "another process"
        raise ConflictError(
            f"A daemon runs with the state {state} already ({who}): stop it with `squall daemon stop`."
        )
    return descriptor


def clear(state: str) -> None:
    """Kill what an earlier daemon started and left: not by a request, so that containers go on."""
    left = daemon_record.read_children(state)
    for process in left:
        process.signal(signal.SIGKILL)
    deadline = time.monotonic() + _DEATH_S
    while any(p.alive() for p in left) and time.monotonic() < deadline:
        time.sleep(0.01)
