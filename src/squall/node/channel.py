"""A runner's frames, as the agent reads them: from somebody who may be hostile.

Bounded work a wakeup, bounded memory, bounded descriptors; the first thing that is no frame ends it.
"""

from __future__ import annotations

import array
import os
import socket
from abc import ABC, abstractmethod
from collections import deque
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

from squall.runner import protocol
from squall.runner.protocol import BadFrame, Frame, memfd

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Sequence

#: Bytes read a wakeup.
_CHUNK = 256 << 10
#: Descriptors that may wait for the rest of their frame.
_PENDING = 4
_ROOM = socket.CMSG_SPACE(4 * 16)


class Payloads(ABC):
    """What a channel tells its owner."""

    @abstractmethod
    def frame(self, frame: Frame, fd: int | None) -> None:
        """A frame; the descriptor, now the owner's, has its payload of `frame.header["size"]` bytes.

        May raise BadFrame.
        """

    @abstractmethod
    def handled(self) -> float:
        """There are no more frames for now. Seconds in which the peer need not be read again: what it says
        meanwhile is heard together.
        """

    @abstractmethod
    def broken(self, reason: str) -> None:
        """The peer broke the protocol. The channel is closed."""

    @abstractmethod
    def gone(self) -> None:
        """The peer closed. The channel is closed."""


class Channel:
    """One accepted connection. `limit` is the largest payload in bytes."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connection: socket.socket, owner: Payloads, limit: int
    ) -> None:
        connection.setblocking(False)
        self._loop = loop
        self._socket = connection
        self._fd = connection.fileno()
        self._owner = owner
        self._limit = limit
        self._frames = protocol.Unframer()
        self._buffer = bytearray(_CHUNK)
        self._descriptors: deque[int] = deque()
        self._unsent: deque[tuple[bytes, Sequence[int]]] = deque()
        self._open = True
        self._paused = False
        self._gathers = False
        self._rest: asyncio.TimerHandle | None = None
        loop.add_reader(self._fd, self._readable)

    @property
    def is_open(self) -> bool:
        return self._open

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Queue a frame; the channel owns the descriptors from now on."""
        if not self._open:
            _close_all(descriptors)
            return
        self._unsent.append((data, descriptors))
        if len(self._unsent) == 1 and not self._gathers:
            self._write()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is sent in the block leaves at its end, at once."""
        self._gathers = not self._unsent  # else the peer is slow, and the loop writes
        try:
            yield
        finally:
            if self._gathers:
                self._gathers = False
                self._join()
                self._write()

    def _join(self) -> None:
        """Frames without descriptors, which belong to the first byte of theirs."""
        frames, self._unsent = self._unsent, deque()
        for has_none, group in groupby(frames, lambda frame: not frame[1]):
            if has_none:
                self._unsent.append((b"".join(data for data, _ in group), ()))
            else:
                self._unsent.extend(group)

    def pause(self) -> None:
        """Read nothing for now; the peer blocks in time."""
        if self._open and not self._paused:
            self._paused = True
            self._stop_rest()
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        if self._open and self._paused:
            self._paused = False
            self._loop.add_reader(self._fd, self._readable)

    def drain(self) -> None:
        """Take in what a dead peer has left, up to its end."""
        while self._open and self._read_some():
            pass

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._stop_rest()
        if not self._paused:
            self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._socket.close()
        _close_all(self._descriptors)
        for _, descriptors in self._unsent:
            _close_all(descriptors)
        self._descriptors.clear()
        self._unsent.clear()

    # -- reading

    def _readable(self) -> None:
        self._read_some()
        if not self._open:
            return
        rest = self._owner.handled()
        if rest > 0 and self.is_open and not self._paused:
            self._loop.remove_reader(self._fd)
            self._rest = self._loop.call_later(rest, self._rested)

    def _rested(self) -> None:
        self._rest = None
        if self._open and not self._paused:
            self._loop.add_reader(self._fd, self._readable)
            self._readable()

    def _stop_rest(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _read_some(self) -> bool:
        """False when there is nothing (more) to read."""
        try:
            size, ancillary, flags, _ = self._socket.recvmsg_into(
                [self._buffer], _ROOM, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return False
        except OSError:
            size, ancillary, flags = 0, [], 0
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._descriptors.extend(array.array("i", data[: len(data) // 4 * 4]))
        try:
            if flags & socket.MSG_CTRUNC or len(self._descriptors) > _PENDING:
                raise BadFrame("more descriptors than frames")
            if size:
                self._frames.feed(bytes(memoryview(self._buffer)[:size]))
                self._deliver()
        except BadFrame as error:
            self._break(str(error))
            return False
        if not size:
            self.close()
            self._owner.gone()
        return bool(size)

    def _deliver(self) -> None:
        while self._open and (frame := self._frames.next()) is not None:
            self._owner.frame(frame, self._payload(frame) if "fd" in frame.header else None)

    def _payload(self, frame: Frame) -> int:
        """The checked memory file of a frame, the caller's. Raises BadFrame."""
        if not self._descriptors:
            raise BadFrame("a frame names a descriptor that did not come")
        fd = self._descriptors.popleft()
        size = memfd.frozen_size(fd)
        if size is None or size != frame.header.get("size") or not 0 < size <= self._limit:
            os.close(fd)
            raise BadFrame("a payload that is no sealed memory file of the size it says")
        return fd

    def _break(self, reason: str) -> None:
        self.close()
        self._owner.broken(reason)

    # -- writing

    def _write(self) -> None:
        while self._unsent:
            data, descriptors = self._unsent[0]
            try:
                sent = self._send_once(data, descriptors)
            except BlockingIOError:
                self._loop.add_writer(self._fd, self._writable)
                return
            except OSError:  # the reader sees the end too, and tells
                self._forget_unsent()
                return
            if sent:
                _close_all(descriptors)
                descriptors = ()
            if sent == len(data):
                self._unsent.popleft()
            else:
                self._unsent[0] = (data[sent:], descriptors)

    def _writable(self) -> None:
        self._loop.remove_writer(self._fd)
        self._write()

    def _send_once(self, data: bytes, descriptors: Sequence[int]) -> int:
        if not descriptors:
            return self._socket.send(data)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        return self._socket.sendmsg([data], [rights])

    def _forget_unsent(self) -> None:
        for _, descriptors in self._unsent:
            _close_all(descriptors)
        self._unsent.clear()


def _close_all(descriptors: Sequence[int] | deque[int]) -> None:
    for fd in descriptors:
        os.close(fd)
