"""The socket to the agent: who may connect, and what is sent to whom without ever waiting."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from squall.runtime.launcher import messages

if TYPE_CHECKING:
    from pathlib import Path

    from squall.runtime.launcher.messages import Message

#: Room for what an agent has not read yet. One that leaves it full is cut off; it reconnects and adopts.
SEND_BUFFER = 4 * 1024 * 1024
_SO_SNDBUFFORCE = 32


class Agent:
    """A connected agent."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER)
        self.alive = True

    def send(self, message: Message, descriptors: list[int] | None = None) -> None:
        """Send without waiting. One who does not read loses the connection."""
        if not self.alive:
            return
        try:
            messages.send(self.connection, message, descriptors)
        except OSError:
            self.alive = False

    def receive(self) -> Message | None:
        """The next request, or None when there is none now. Ends the connection on anything odd."""
        try:
            message, descriptors = messages.receive(self.connection)
            messages.close_all(descriptors)
            return message
        except BlockingIOError:
            return None
        except (OSError, ValueError):
            self.alive = False
            return None


def listen(path: Path, owner_uid: int) -> socket.socket:
    """Listen at `path`, for its owner and root only."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o177)
    try:
        with messages.reachable(path) as name:
            listener.bind(name)
    finally:
        os.umask(before)
    os.chown(path, owner_uid, -1, follow_symlinks=False)
    listener.listen(16)
    listener.setblocking(False)
    return listener


def accept(listener: socket.socket, owner_uid: int) -> Agent | None:
    """The next agent; None when it went away or is somebody else."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    if uid not in (0, owner_uid):
        connection.close()
        return None
    return Agent(connection)
