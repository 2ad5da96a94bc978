"""Direct calls: a caller's line into a container. The agent brings the socket there, and watches. Chunks are
watched in the same way.

What the runner is doing, it notes in a page of memory that it shares with us: how many calls it has begun,
and since when the one that runs does. We read it with pread, never map it, and believe it as far as it harms
nobody but its own function.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from squall.runner.protocol import direct, memfd
from squall.wire.parcels import is_socket_name

if TYPE_CHECKING:
    from squall.wire.messages import NodeInput

#: A call over a line that runs for so many seconds is not quick: the server hears of it.
SLOW = 0.1
#: Calls, and seconds, of one line, as far as a runner is believed.
_MOST = 1 << 32


def is_direct(item: NodeInput) -> bool:
    return is_socket_name(item.payload.blob)


def is_line(fd: int) -> bool:
    """Whether it is one end of a pair of stream sockets."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:
        return False


class Page:
    """Ours of one line, or one chunk; `began` is when the runner got it (CLOCK_MONOTONIC seconds)."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._fd = memfd.create()
        os.ftruncate(self._fd, direct.PAGE.size)
        memfd.freeze_size(self._fd)

    def lend(self) -> int:
        """A descriptor for the runner."""
        return os.dup(self._fd)

    def calls(self) -> int:
        """How many the runner has begun."""
        return int(min(self._read()[0], _MOST))

    def runs(self) -> bool:
        """Whether a call does."""
        return bool(self._read()[1] > 0)

    def since(self, now: float) -> float:
        """When the call that runs began; now, if none does."""
        since = self._read()[1]
        return float(min(max(since, self._began), now)) if since > 0 else now

    def seconds(self) -> float:
        """How long those ran that have ended."""
        seconds = self._read()[2]
        return min(float(seconds), _MOST) if seconds > 0 else 0.0

    def __del__(self) -> None:
        os.close(self._fd)

    def _read(self) -> tuple[Any, ...]:
        return direct.PAGE.unpack(os.pread(self._fd, direct.PAGE.size, 0))
