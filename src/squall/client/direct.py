"""Direct lines from this process into containers of its host: when to open one, and the calls over it.

The first calls of a function go by way of the server, as all others do. Once a few in a row were quick, the
next one opens a line: a call of kind "direct", whose argument is one end of a socket pair. While it is there,
a call goes straight to the runner. It is no promise: whatever happens, the call goes by way of the server
again, and only what the container has begun for certain is told as its outcome.
"""

from __future__ import annotations

import math
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from squall import exception
from squall.client.api import ServiceRefusal
from squall.runner import protocol
from squall.runner.protocol import BadFrame
from squall.runner.protocol import direct as runner
from squall.wire.values import InputItem, Outcome, OutputItem, Payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.client.api import Call, Event

#: So many calls in a row of at most so many seconds, and a function is worth a line.
CALLS = 3
QUICK = 0.025
#: A line that served fewer calls was not worth it: no other one for so many seconds, doubled each time.
WORTH = 16
PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: How long to listen for an answer before looking whether the server has told of the line's end (in us).
PATIENCE_US = 1_000_000
_CHUNK = 256 << 10

#: Of a function, and of a method of a class.
Key = tuple[str, str]


@dataclass(slots=True)
class Habit:
    """Of one function: how its calls were, and when it may have a line again. Pure."""

    quick: int = 0
    pause: float = 0.0
    not_before: float = 0.0

    def called(self, seconds: float) -> None:
        """A call by way of the server took so long."""
        self.quick = self.quick + 1 if seconds <= QUICK else 0

    def wants_line(self, now: float) -> bool:
        return self.quick >= CALLS and now >= self.not_before

    def ended(self, calls: int, now: float) -> None:
        """A line has, after so many calls."""
        if calls >= WORTH:
            self.pause = 0.0
            return
        self.pause = min(LONGEST_PAUSE, max(PAUSE, 2 * self.pause))
        self.not_before = now + self.pause

    def refused(self) -> None:
        """The function has no lines."""
        self.not_before = math.inf


@dataclass(slots=True)
class _Function:
    habit: Habit = field(default_factory=Habit)
    idle: list[Line] = field(default_factory=list)
    closed: bool = False


class Lines:
    """Of one client. `offer` lends the server a socket: its name, or empty. Threads may share it."""

    def __init__(self, offer: Callable[[socket.socket], str]) -> None:
        self._offer = offer
        self._functions: dict[Key, _Function] = {}

    def take(self, key: Key, open_call: Callable[[], Call]) -> Line | None:
        """A line for one call, if the function should have one."""
        known = self._functions.get(key)
        if known is None:
            return None
        try:
            return known.idle.pop()
        except IndexError:
            return self._open(known, open_call) if known.habit.wants_line(time.monotonic()) else None

    def called(self, key: Key, seconds: float) -> None:
        """A call by way of the server took so long."""
        known = self._functions.get(key)
        if known is None:
            known = self._functions[key] = _Function()
        known.habit.called(seconds)

    def close(self) -> None:
        """Hang up. Lines that are in use go on."""
        for known in self._functions.values():
            known.closed = True
            while known.idle:
                known.idle.pop().hang_up()

    def _hang_up_old(self) -> None:
        """Those whose runners have hung up long ago keep a descriptor each."""
        before = time.monotonic() - 2 * runner.IDLE
        for known in tuple(self._functions.values()):
            for line in [line for line in known.idle if line.used < before]:
                with suppress(ValueError):  # another thread has taken it
                    known.idle.remove(line)
                    line.hang_up()

    def _open(self, known: _Function, open_call: Callable[[], Call]) -> Line | None:
        self._hang_up_old()
        ours, theirs = socket.socketpair()
        with theirs:
            name = self._offer(theirs)
        if not name:
            ours.close()
            known.habit.ended(0, time.monotonic())
            return None
        call = open_call()
        call.send([InputItem(0, Payload(blob=name))], last=True)
        return Line(ours, call, known)


class Line:
    """One call at a time."""

    def __init__(self, sock: socket.socket, call: Call, function: _Function) -> None:
        # The kernel's timeout: Python's own costs a poll before each send and receive.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", *divmod(PATIENCE_US, 10**6)))
        self._socket = sock
        self._frames = protocol.Unframer()
        self._call = call
        self._function = function
        self._number = 0
        self._hung_up = False
        #: When it last gave a result (monotonic seconds).
        self.used = time.monotonic()
        self._end: Event | None = None

    def ask(self, arguments: bytes) -> bytes | Outcome | None:
        """The pickled result; or the call's outcome, if that came by way of the server; or None: the call was
        not begun, or broken off through no fault of its own, and is to be made by way of the server.

        Raises what `Call.next` does. Who stops waiting cancels the call.
        """
        self._number += 1
        try:
            result = self._answer(arguments)
            outcome = self._outcome() if result is None else None
        except BaseException:
            try:
                with suppress(exception.Error):
                    self._call.cancel()
            finally:
                self.hang_up()
            raise
        if result is None:
            return outcome
        self.used = time.monotonic()
        if self._function.closed:
            self.hang_up()
        else:
            self._function.idle.append(self)
        return result

    def hang_up(self) -> None:
        self._hung_up = True
        self._close()
        self._call.close()

    def _close(self) -> None:
        with suppress(OSError):  # also where a process that was forked still has it
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _answer(self, arguments: bytes) -> bytes | None:
        """None: the line has ended."""
        try:
            self._socket.sendall(protocol.encode(protocol.INPUT, self._number, None, arguments))
            while (frame := self._frames.next()) is None:
                if not self._receive():
                    return None
        except (OSError, BadFrame):
            return None
        right = frame.kind == protocol.OUTPUT and frame.input == self._number and not frame.header
        return frame.payload if right else None

    def _receive(self) -> bool:
        ended = False
        while True:
            try:
                data = self._socket.recv(_CHUNK, socket.MSG_DONTWAIT if ended else 0)
            except BlockingIOError:
                if ended:
                    return False
                ended = self._has_ended()  # and what was said before that is here by now
                continue
            self._frames.feed(data)
            return bool(data)

    def _has_ended(self) -> bool:
        """Whether the server has said so, which another thread has read."""
        try:
            self._end = self._call.next(0)
        except exception.TimeoutError:
            return False
        except (ServiceRefusal, exception.Error):
            return True
        return True

    def _outcome(self) -> Outcome | None:
        """The line has ended: what that means for the call."""
        if self._hung_up:  # by another thread: nobody tells of the end
            return None
        self._close()  # should it be us who did not like it
        habit = self._function.habit
        try:
            event = self._end or self._call.next()
        except ServiceRefusal as refusal:
            if refusal.code == "invalid":
                habit.refused()
            else:
                habit.ended(0, time.monotonic())
            return None
        finally:
            self._call.close()
        habit.ended(self._number - 1, time.monotonic())
        assert isinstance(event, OutputItem)
        return event.outcome if event.outcome.yields == self._number else None
