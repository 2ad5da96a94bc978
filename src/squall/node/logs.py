"""What containers print, on its way to the server: whole lines where possible, bounded, in small batches.

A container that writes faster than RATE loses lines, and is told how many; one that writes much faster still
blocks on its full pipe, so that reading it costs the agent no more than BUDGET a turn.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from squall.wire.messages import NodeLogs
from squall.wire.values import LogItem

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between batches.
TURN = 0.03
#: Bytes of one container that are read, and of those kept, a turn; unused room is saved up to BURST.
BUDGET = 512 << 10
RATE = 64 << 10
BURST = 2 << 20
#: A line in pieces of at most so many bytes.
LINE = 64 << 10
#: Turns that an unfinished line waits for its end.
_PATIENCE = 3
_CHUNK = 64 << 10


class Allowance:
    """How much of one container may still be kept: a bucket that fills by RATE a turn."""

    def __init__(self) -> None:
        self.kept = BURST
        self.read = BUDGET

    def turn(self) -> None:
        self.kept = min(BURST, self.kept + RATE)
        self.read = BUDGET


class Lines:
    """Cuts a byte stream into pieces that end where lines do."""

    def __init__(self) -> None:
        self._rest = b""
        self._age = 0

    def feed(self, data: bytes) -> bytes:
        """What can be passed on."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        if len(data) - end > LINE:
            end = len(data)
        self._rest, self._age = data[end:], 0
        return data[:end]

    def turn(self) -> bytes:
        """An unfinished line that has waited long enough."""
        self._age += 1
        return self.flush() if self._rest and self._age >= _PATIENCE else b""

    def flush(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest


class _Pipe:
    """One output of a container."""

    def __init__(self, fd: int, number: int, allowance: Allowance) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.number = number
        self.open = True
        self.watched = False
        self.dropped = 0
        self._lines = Lines()
        self._allowance = allowance
        self._ready: list[bytes] = []

    def read(self) -> bool:
        """Once; whether there may be more now."""
        if self._allowance.read <= 0:
            return False
        try:
            data = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.open = False
            return False
        self._allowance.read -= len(data)
        self._keep(self._lines.feed(data))
        return True

    def _keep(self, data: bytes) -> None:
        if len(data) <= self._allowance.kept:
            self._allowance.kept -= len(data)
            if data:
                self._ready.append(data)
        else:
            self.dropped += data.count(b"\n") or 1

    def turn(self) -> None:
        self._keep(self._lines.turn())

    def flush(self) -> None:
        self._keep(self._lines.flush())

    def take(self) -> bytes:
        data = b"".join(self._ready)
        self._ready.clear()
        return data


class ContainerLogs:
    """Both outputs of one container. Owns the descriptors."""

    def __init__(self, owner: Logs, container: str, function: str, stdout: int, stderr: int) -> None:
        self._owner = owner
        self._container = container
        self._function = function
        self._allowance = Allowance()
        self._pipes = [_Pipe(stdout, 1, self._allowance), _Pipe(stderr, 2, self._allowance)]
        self._loop = asyncio.get_running_loop()
        for pipe in self._pipes:
            self._watch(pipe)

    def pull(self) -> list[LogItem]:
        """What is there now, unfinished lines too: it precedes what happens next."""
        for pipe in self._pipes:
            while pipe.open and pipe.read():
                pass
            pipe.flush()
        return self._take()

    def turn(self) -> list[LogItem]:
        """A turn is over: what has gathered. Pipes that were left alone are read again."""
        self._allowance.turn()
        for pipe in self._pipes:
            pipe.turn()
            self._watch(pipe)
        return self._take()

    def say(self, text: str) -> None:
        """A line of the platform's own about this container."""
        self._owner.add([LogItem(self._container, self._function, 0, text.encode() + b"\n", time.time())])

    def close(self) -> list[LogItem]:
        """The container is gone: the rest of its output."""
        self._allowance.read = max(self._allowance.read, 2 * BUDGET)
        items = self.pull()
        for pipe in self._pipes:
            self._unwatch(pipe)
            os.close(pipe.fd)
        self._pipes = []
        return items

    def _take(self) -> list[LogItem]:
        items = []
        for pipe in self._pipes:
            data = pipe.take()
            if data or pipe.dropped:
                items.append(
                    LogItem(self._container, self._function, pipe.number, data, time.time(), pipe.dropped)
                )
                pipe.dropped = 0
        return items

    def _watch(self, pipe: _Pipe) -> None:
        if pipe.open and not pipe.watched:
            pipe.watched = True
            self._loop.add_reader(pipe.fd, self._readable, pipe)

    def _unwatch(self, pipe: _Pipe) -> None:
        if pipe.watched:
            pipe.watched = False
            self._loop.remove_reader(pipe.fd)

    def _readable(self, pipe: _Pipe) -> None:
        self._owner.schedule()
        if not pipe.read() and (not pipe.open or self._allowance.read <= 0):
            self._unwatch(pipe)


class Logs:
    """All containers' output. `send` takes a message for the server."""

    #: Bytes kept for a server that is away.
    KEPT = 4 << 20

    def __init__(self, send: Callable[[NodeLogs], None], connected: Callable[[], bool]) -> None:
        self._send = send
        self._connected = connected
        self._containers: dict[str, ContainerLogs] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._idle_turns = 0
        self._kept: list[LogItem] = []
        self._kept_bytes = 0

    def open(self, container: str, function: str, stdout: int, stderr: int) -> ContainerLogs:
        logs = self._containers[container] = ContainerLogs(self, container, function, stdout, stderr)
        return logs

    def close(self, container: str) -> None:
        logs = self._containers.pop(container, None)
        if logs is not None:
            self.add(logs.close())

    def pull(self, container: str) -> None:
        """Send what a container has printed up to now."""
        logs = self._containers.get(container)
        if logs is not None:
            self.add(logs.pull())

    def add(self, items: list[LogItem]) -> None:
        if not items:
            return
        if self._connected():
            self._send(NodeLogs(items))
            return
        for item in items:
            self._kept.append(item)
            self._kept_bytes += len(item.data)
        self._bound()

    def reconnected(self) -> None:
        items, self._kept, self._kept_bytes = self._kept, [], 0
        self.add(items)

    def schedule(self) -> None:
        """There is output: a turn follows, and turns go on while there is more."""
        self._idle_turns = 0
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TURN, self._turn)

    def _turn(self) -> None:
        self._timer = None
        items = [item for logs in list(self._containers.values()) for item in logs.turn()]
        self.add(items)
        self._idle_turns += 1
        if self._idle_turns <= _PATIENCE:
            self._timer = asyncio.get_running_loop().call_later(TURN, self._turn)

    def _bound(self) -> None:
        """The oldest goes first; what follows it says how much is missing."""
        while self._kept_bytes > self.KEPT:
            oldest = self._kept.pop(0)
            self._kept_bytes -= len(oldest.data)
            lost = oldest.dropped + (oldest.data.count(b"\n") or 1)
            for item in self._kept:
                if (item.container, item.fd) == (oldest.container, oldest.fd):
                    item.dropped += lost
                    break

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for container in list(self._containers):
            self.close(container)
