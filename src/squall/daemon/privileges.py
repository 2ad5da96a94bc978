"""Who server and agent run as: a user of their own, when root starts them and this host lets root do that."""

from __future__ import annotations

import os
import pwd
import stat
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass

USER = "squall"
#: Where no user of that name exists: an id that distributions give to nobody.
RESERVED_UID = 999_000

#: capabilities(7): what changing owners and users takes.
_NEEDED = (0, 6, 7)  # CHOWN, SETGID, SETUID


@dataclass(frozen=True)
class Identity:
    uid: int
    gid: int


def choose() -> tuple[Identity | None, str]:
    """Whom to run server and agent as, and what is lost otherwise (one line, empty if nothing).

    None: as the user who starts them.
    """
    if os.geteuid() != 0:
        return None, ""
    if not _capable():
        return None, "server and node run as root: this host does not let root act as another user"
    identity = _identity()
    hidden = next((path for path in _program_files() if not readable(path, identity)), None)
    if hidden is not None:
        return (
            None,
            f"server and node run as root: other users cannot read {hidden}, where Squall is installed",
        )
    return identity, ""


def _identity() -> Identity:
    with suppress(KeyError):
        found = pwd.getpwnam(USER)
        return Identity(found.pw_uid, found.pw_gid)
    return Identity(RESERVED_UID, RESERVED_UID)


def _capable() -> bool:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    effective = int(lines.get("CapEff", "0"), 16)
    return all(effective >> bit & 1 for bit in _NEEDED)


def _program_files() -> list[str]:
    """What a Python of that user must be able to read."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = sysconfig.get_paths()
    return [own, sys.executable, os.path.realpath(sys.executable), paths["stdlib"], paths["purelib"]]


def readable(path: str, identity: Identity) -> bool:
    """Whether that user may read the file or list the directory, by the permissions of all on the way."""
    path = os.path.abspath(path)
    parents = [path[: i + 1].rstrip("/") or "/" for i, c in enumerate(path) if c == "/"]
    try:
        leaf = os.stat(path)
        return all(_allowed(os.stat(p), identity, 0o1) for p in parents) and _allowed(
            leaf, identity, 0o5 if stat.S_ISDIR(leaf.st_mode) else 0o4
        )
    except OSError:
        return False


def _allowed(info: os.stat_result, identity: Identity, wanted: int) -> bool:
    if info.st_uid == identity.uid:
        return (info.st_mode >> 6) & wanted == wanted
    if info.st_gid == identity.gid:
        return (info.st_mode >> 3) & wanted == wanted
    return info.st_mode & wanted == wanted
