"""`python -m squall.daemon.view`: become another user for good, then run a program.

What that user needs may lie in a home that is closed to others: a virtual environment in /root, most often.
Then the program gets a view of its own in which that home holds nothing but what was named: a mount
namespace with an empty file system over the closed directory and the named paths bound into it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import stat
import sys
from dataclasses import dataclass

_CLONE_NEWNS = 0x20000
_PR_SET_NO_NEW_PRIVS = 38
# mount(2)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 0x1, 0x2, 0x4, 0x20
_MS_BIND, _MS_REC, _MS_SLAVE = 0x1000, 0x4000, 0x80000


@dataclass(frozen=True)
class Identity:
    uid: int
    gid: int


def main(arguments: list[str]) -> None:
    """Does not return. Raises OSError."""
    parser = argparse.ArgumentParser(prog="squall.daemon.view", description=__doc__)
    parser.add_argument("--uid", type=int, required=True)
    parser.add_argument("--gid", type=int, required=True)
    parser.add_argument("--show", action="append", default=[], help="an absolute path that must be reachable")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)
    become(Identity(given.uid, given.gid), given.show)
    os.execv(given.command[0], given.command)


def command(identity: Identity, shown: list[str], program: tuple[str, ...]) -> tuple[str, ...]:
    """The command line that runs a program so."""
    options = ["--uid", str(identity.uid), "--gid", str(identity.gid)]
    for path in shown:
        options += ["--show", path]
    return (sys.executable, "-m", "squall.daemon.view", *options, "--", *program)


def become(identity: Identity, shown: list[str]) -> None:
    """Needs root, and for closed directories the right to mount."""
    closed = closed_directories(shown, identity)
    libc = ctypes.CDLL(None, use_errno=True)
    if closed:
        _check(libc.unshare(_CLONE_NEWNS), "unshare")
        _mount(libc, "none", "/", None, _MS_REC | _MS_SLAVE)
        for directory, paths in closed.items():
            _cover(libc, directory, paths)
    os.setgroups([])
    os.setgid(identity.gid)
    os.setuid(identity.uid)
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def closed_directories(shown: list[str], identity: Identity) -> dict[str, list[str]]:
    """The outermost directories that the user may not pass, and which of the paths lie beyond each."""
    closed: dict[str, list[str]] = {}
    for path in sorted({os.path.abspath(p) for p in shown if os.path.exists(p)}, key=len):
        parts = [path[:i] for i, c in enumerate(path) if c == "/" and i]
        barrier = next((p for p in parts if not passable(os.stat(p), identity)), None)
        if barrier is None:
            continue
        beyond = closed.setdefault(barrier, [])
        if not any(path.startswith(f"{other}/") for other in beyond):
            beyond.append(path)
    return closed


def passable(info: os.stat_result, identity: Identity) -> bool:
    """Whether the user may go through a directory."""
    if info.st_uid == identity.uid:
        return bool(info.st_mode & stat.S_IXUSR)
    if info.st_gid == identity.gid:
        return bool(info.st_mode & stat.S_IXGRP)
    return bool(info.st_mode & stat.S_IXOTH)


def _cover(libc: ctypes.CDLL, directory: str, paths: list[str]) -> None:
    descriptors = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths}
    flags = _MS_NOSUID | _MS_NODEV
    _mount(libc, "tmpfs", directory, "tmpfs", flags, "mode=0755,size=1m")
    for path, descriptor in descriptors.items():
        _make_point(path, is_directory=stat.S_ISDIR(os.fstat(descriptor).st_mode))
        _mount(libc, f"/proc/self/fd/{descriptor}", path, None, _MS_BIND | _MS_REC)
        os.close(descriptor)
    _mount(libc, "tmpfs", directory, None, _MS_REMOUNT | _MS_RDONLY | flags)


def _make_point(path: str, *, is_directory: bool) -> None:
    before = os.umask(0o022)
    os.makedirs(path if is_directory else os.path.dirname(path), exist_ok=True)
    if not is_directory:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    os.umask(before)


def _mount(
    libc: ctypes.CDLL, source: str, target: str, kind: str | None, flags: int, data: str | None = None
) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    result = libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _check(result, f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as problem:
        sys.exit(f"squall: {problem}")
