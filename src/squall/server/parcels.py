"""Large payloads of this host in memory files: who holds them, and how much of it a workspace may have.
And the sockets of direct calls, on their way to a container.

The server passes descriptors on and looks at nothing but seals, sizes and kinds. Nothing here is on disk: the
client lends its arguments again to a server that comes after this one, and so does a node its results.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from squall.server.names import Refusal, check_parcel
from squall.wire.parcels import is_name, is_socket_name
from squall.wire.values import PAYLOAD_LIMIT

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from squall.store.base import Blobs
    from squall.wire.values import Payload

#: linux/fcntl.h: F_GET_SEALS; F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE.
_F_GET_SEALS = 1034
_FROZEN = 2 | 4 | 8
#: Of the machine's memory, what one workspace may have in parcels.
SHARE = 0.5
#: Parcels of one workspace.
COUNT = 4096


@dataclass(eq=False)
class _Parcel:
    workspace: str
    fd: int
    size: int
    holders: set[Hashable] = field(default_factory=set)


class Parcels:
    """`limit` bytes a workspace; a parcel is closed when nobody holds it any more."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = int(SHARE * _memory()) if limit is None else limit
        self._parcels: dict[str, _Parcel] = {}
        self._bytes: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def put(self, workspace: str, name: str, fd: int, holder: Hashable) -> None:
        """Takes the descriptor over. A name that is there already is the same parcel. Raises Refusal."""
        try:
            self._check(workspace, name, fd)
        except Refusal:
            os.close(fd)
            raise
        if name in self._parcels:
            os.close(fd)
        else:
            size = _size(name, fd)
            self._parcels[name] = _Parcel(workspace, fd, size)
            self._bytes[workspace] += size
            self._counts[workspace] += 1
        self._parcels[name].holders.add(holder)

    def _check(self, workspace: str, name: str, fd: int) -> None:
        check_parcel(name)
        if is_socket_name(name):
            if not _is_stream(fd):
                raise Refusal("invalid", "a direct call's parcel is a Unix stream socket")
        elif not 0 < (_frozen_size(fd) or 0) <= PAYLOAD_LIMIT:
            raise Refusal("invalid", f"a parcel is a sealed memory file of 1 to {PAYLOAD_LIMIT} bytes")
        size = _size(name, fd)
        known = self._parcels.get(name)
        if known is not None:
            if (known.workspace, known.size) != (workspace, size):
                raise Refusal("exists", f"parcel {name[:12]} is another one")
        elif self._bytes[workspace] + size > self._limit or self._counts[workspace] >= COUNT:
            raise Refusal(
                "exhausted",
                f"large payloads of workspace {workspace} that nobody has taken yet fill "
                f"{self._bytes[workspace] >> 20} MiB of {self._limit >> 20} MiB: wait for some calls to end",
            )

    def get(self, workspace: str, name: str) -> int:
        """The descriptor, which stays the table's. Raises Refusal."""
        found = self._parcels.get(name)
        if found is None or found.workspace != workspace:
            raise Refusal("not_found", f"no parcel {name[:12]} is here")
        return found.fd

    def take(self, workspace: str, name: str) -> int:
        """As `get`, and it is the caller's from now on. Raises Refusal."""
        fd = os.dup(self.get(workspace, name))
        self._remove(name)
        return fd

    def has(self, workspace: str, payload: Payload) -> bool:
        """Whether the parcel of a payload is here; true of one that is none."""
        if not payload.blob or not is_name(payload.blob):
            return True
        found = self._parcels.get(payload.blob)
        return found is not None and found.workspace == workspace

    def hold(self, workspace: str, payload: Payload, holder: Hashable) -> None:
        """Keep a payload's parcel, if it is one, until it is let go of.

        A socket is nobody else's then: its other end must hear of the end.
        """
        if payload.blob and self.has(workspace, payload) and is_name(payload.blob):
            holders = self._parcels[payload.blob].holders
            if is_socket_name(payload.blob):
                holders.clear()
            holders.add(holder)

    def refuse(self, workspace: str, payload: Payload) -> None:
        """Nobody will take a socket: its other end hears of it."""
        if is_socket_name(payload.blob) and self.has(workspace, payload):
            self._remove(payload.blob)

    def release(self, name: str, holder: Hashable) -> None:
        found = self._parcels.get(name)
        if found is None:
            return
        found.holders.discard(holder)
        if not found.holders:
            self._remove(name)

    def _remove(self, name: str) -> None:
        found = self._parcels.pop(name)
        self._bytes[found.workspace] -= found.size
        self._counts[found.workspace] -= 1
        os.close(found.fd)

    def release_all(self, names: Iterable[str], holder: Hashable) -> None:
        for name in names:
            self.release(name, holder)

    def let_go(self, payload: Payload, holder: Hashable) -> None:
        """As `release`, of what may be no parcel."""
        if payload.blob:
            self.release(payload.blob, holder)

    def close(self) -> None:
        for parcel in self._parcels.values():
            os.close(parcel.fd)
        self._parcels.clear()

    def __len__(self) -> int:
        return len(self._parcels)


@dataclass(frozen=True)
class Content:
    """What payloads name: blobs of the store, and parcels."""

    blobs: Blobs
    parcels: Parcels


def _frozen_size(fd: int) -> int | None:
    """The size of a memory file that can no longer change; None for any other file."""
    try:
        seals = fcntl.fcntl(fd, _F_GET_SEALS)
    except OSError:
        return None
    return os.fstat(fd).st_size if seals & _FROZEN == _FROZEN else None


def _is_stream(fd: int) -> bool:
    """Whether it is a connected Unix stream socket."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            sock.getpeername()
            return (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:
        return False


def _size(name: str, fd: int) -> int:
    """The bytes of memory that a parcel takes."""
    return 0 if is_socket_name(name) else os.fstat(fd).st_size


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
