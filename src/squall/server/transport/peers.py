"""Who is at the other end of a socket, by the kernel's word."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING

from squall.server.connection import Peer

if TYPE_CHECKING:
    import asyncio

#: struct ucred of unix(7): pid, uid, gid.
_UCRED = struct.Struct("iII")


def is_unix(transport: asyncio.BaseTransport) -> bool:
    sock = transport.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """A TCP peer's address is its IP address."""
    if is_unix(transport):
        return Peer("unix", uid=uid_of(transport.get_extra_info("socket")))
    name = transport.get_extra_info("peername")
    return Peer("tcp", address=str(name[0]) if name else "")


def uid_of(sock: socket.socket) -> int:
    """Of the process at the other end of a Unix socket."""
    uid: int = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[1]
    return uid


def in_kernel(transport: asyncio.BaseTransport) -> int:
    """Bytes that were sent and that the other end's kernel has not taken (SIOCOUTQ of tcp(7), unix(7))."""
    sock = transport.get_extra_info("socket")
    answer = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, answer)
    except OSError:
        return 0
    return answer[0]


def name_of(peer: Peer) -> str:
    """For the log."""
    return peer.address if peer.kind == "tcp" else f"uid {peer.uid}"
