"""Which parts of the host a container may be shown: an allow-list of directories, opened without tricks.

The agent names paths; the launcher opens them beneath the directories it was given at its start, following no
symbolic link on the way, so that neither a confused agent nor a tenant's file can lead it elsewhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from squall.runtime.linux import mounts


class SourceError(Exception):
    """A path that may not be shown, or is not there; the message is one line for a user."""


@dataclass(frozen=True)
class Root:
    """An allowed directory. Writable ones may receive a build's layer and be mounted read-write."""

    path: str
    fd: int
    writable: bool


class Sources:
    """Opens paths beneath allowed directories."""

    def __init__(self, readable: list[str], writable: list[str]) -> None:
        pairs = [*((path, True) for path in writable), *((path, False) for path in readable)]
        self._roots = [_root(path, writable=write) for path, write in pairs]

    def open(self, path: str, *, writable: bool = False) -> int:
        """An O_PATH descriptor of `path`. Raises `SourceError`."""
        root = self._find(path, writable=writable)
        beneath = os.path.relpath(path, root.path)
        rules = mounts.RESOLVE_BENEATH | mounts.RESOLVE_NO_SYMLINKS | mounts.RESOLVE_NO_MAGICLINKS
        try:
            return mounts.open_resolved(root.fd, beneath, os.O_PATH, rules)
        except OSError as error:
            raise SourceError(
                f"cannot show {path!r} to a container: {os.strerror(error.errno or 0)}"
            ) from None

    def _find(self, path: str, *, writable: bool) -> Root:
        if not path.startswith("/") or os.path.normpath(path) != (path.rstrip("/") or "/"):
            raise SourceError(f"{path!r} is not an absolute, plain path")
        for root in self._roots:
            inside = path == root.path or path.startswith(root.path.rstrip("/") + "/")
            if inside and (root.writable or not writable):
                return root
        kind = "writable by" if writable else "visible to"
        raise SourceError(f"{path!r} lies outside what the launcher makes {kind} containers")


def _root(path: str, *, writable: bool) -> Root:
    real = os.path.realpath(path)
    try:
        return Root(real, os.open(real, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), writable)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}; name an existing directory") from None
