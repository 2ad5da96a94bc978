"""How the launcher, its zones and the agent talk: one JSON object a packet, descriptors beside it.

Sockets are AF_UNIX SOCK_SEQPACKET: packets keep their bounds, and descriptors stay with their packet.
"""

from __future__ import annotations

import array
import json
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Bytes of the largest packet: what an unprivileged sender may send with the kernel's default buffer.
MAX_PACKET = 160 * 1024
#: The kernel passes at most 253 descriptors in a packet.
MAX_DESCRIPTORS = 253

Message = dict[str, Any]


class Closed(ConnectionError):
    """The other end is gone."""


def encode(message: Message) -> bytes:
    """Raises `ValueError` when the packet would be too large."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_PACKET:
        raise ValueError(f"the request has {len(data)} bytes, {MAX_PACKET} are possible: shorten argv or env")
    return data


def send(connection: socket.socket, message: Message, descriptors: list[int] | None = None) -> None:
    send_packet(connection, encode(message), descriptors or [])


def send_packet(connection: socket.socket, packet: bytes, descriptors: list[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([packet], rights, socket.MSG_NOSIGNAL)


def receive(connection: socket.socket) -> tuple[Message, list[int]]:
    """The next message and its descriptors, which are the caller's and close on exec.

    Raises `Closed` at the end, `BlockingIOError` when a non-blocking socket has nothing, `ValueError` for
    what is no message (its descriptors are closed).
    """
    space = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
    data, ancillary, flags, _ = connection.recvmsg(MAX_PACKET + 1, space, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(payload[: len(payload) - len(payload) % 4])
    received = list(descriptors)
    if not data:
        close_all(received)
        raise Closed("the other end closed the socket")
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("a packet was cut off")
        message = json.loads(data)
        if not isinstance(message, dict):
            raise TypeError("a packet is no object")
    except (ValueError, TypeError, RecursionError) as error:
        close_all(received)
        raise ValueError(str(error)) from None
    return message, received


def close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name for a socket's path that the kernel takes however long the path is (it takes 107 bytes)."""
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
