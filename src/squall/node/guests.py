"""Guests of this node's containers: bytes between their descriptors and the server, no more than it takes."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from squall.runtime import terminals
from squall.runtime.driver import DriverError
from squall.runtime.spec import Command
from squall.wire.guests import PIECE, WINDOW, GuestCredit, GuestData, GuestEnd, GuestResize, Join

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.runtime.driver import Guest as Program
    from squall.runtime.driver import Runtime
    from squall.runtime.spec import ExitStatus

#: After a program's end, what it left running may hold its output open so long without a word (seconds).
DRAIN_S = 1.0
#: What a terminal is told at the end of its input: Ctrl-D.
_END = b"\x04"


class Guests:
    """All of them. `send` takes messages for the server."""

    def __init__(self, runtime: Runtime, send: Callable[..., None]) -> None:
        self._runtime = runtime
        self._send = send
        self._guests: dict[str, _Guest] = {}

    def received(self, message: Join | GuestData | GuestCredit | GuestResize | GuestEnd) -> None:
        if isinstance(message, Join):
            if message.guest not in self._guests:
                self._guests[message.guest] = _Guest(message, self._runtime, self._send, self._over)
            return
        guest = self._guests.get(message.guest)
        if guest is not None:
            guest.received(message)

    def close(self) -> None:
        """Hang all up: nobody hears of them any more."""
        for guest in list(self._guests.values()):
            guest.hang_up()

    def _over(self, guest: str) -> None:
        self._guests.pop(guest, None)


class _Guest:
    """One, from the request to its end."""

    def __init__(
        self, request: Join, runtime: Runtime, send: Callable[..., None], over: Callable[[str], None]
    ) -> None:
        self._id = request.guest
        self._runtime = runtime
        self._send = send
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._program: Program | None = None
        self._size = (request.rows, request.columns)
        self._input: deque[bytes] = deque()
        self._taken = 0
        self._credit = WINDOW
        self._open: set[int] = set()
        self._reading = False
        self._news = asyncio.Event()
        self._task = self._loop.create_task(self._live(request))

    def received(self, message: Any) -> None:
        if isinstance(message, GuestData):
            self._input.append(message.data)
            self._write()
        elif isinstance(message, GuestCredit):
            self._credit += message.size
            self._read_on()
        elif isinstance(message, GuestResize):
            self._size = (message.rows, message.columns)
            self._resize()
        elif isinstance(message, GuestEnd):
            self.hang_up()

    def hang_up(self) -> None:
        self._task.cancel()

    async def _live(self, request: Join) -> None:
        terminal = (request.rows, request.columns) if request.terminal else None
        try:
            command = Command(tuple(request.argv), dict(request.env), terminal=terminal)
            self._program = await self._runtime.join(request.container, command)
            self._begin(self._program)
            status = await self._program.wait()
            await self._drained()
            self._send(_end(self._id, status))
        except DriverError as error:
            self._send(GuestEnd(self._id, error=str(error)))
        finally:
            self._close()
            self._over(self._id)

    def _begin(self, program: Program) -> None:
        self._open = {program.stdout, program.stderr} - {-1}
        self._resize()
        self._read_on()
        self._write()

    def _resize(self) -> None:
        if self._program is not None and self._program.stderr < 0 and self._program.stdout >= 0:
            with suppress(OSError):
                terminals.resize(self._program.stdout, *self._size)

    async def _drained(self) -> None:
        """Until its output ends, or nothing comes any more though the client takes it."""
        while self._open:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), DRAIN_S)
            except asyncio.TimeoutError:
                if self._credit > 0:
                    return

    # -- output

    def _read_on(self) -> None:
        if self._credit > 0 and not self._reading:
            self._reading = True
            for fd in self._open:
                self._loop.add_reader(fd, self._readable, fd)

    def _pause(self) -> None:
        self._reading = False
        for fd in self._open:
            self._loop.remove_reader(fd)

    def _readable(self, fd: int) -> None:
        if self._credit <= 0:
            return
        try:
            data = os.read(fd, min(PIECE, self._credit))
        except BlockingIOError:
            return
        except OSError:  # how a terminal ends
            data = b""
        self._news.set()
        if not data:
            self._loop.remove_reader(fd)
            self._open.discard(fd)
            return
        self._credit -= len(data)
        assert self._program is not None
        self._send(GuestData(self._id, 2 if fd == self._program.stderr else 1, data))
        if self._credit <= 0:
            self._pause()

    # -- input

    def _write(self) -> None:
        """What the program does not want any more counts as taken."""
        program = self._program
        if program is None:
            return
        while self._input:
            data = self._input[0]
            if not data and not self._end_input(program):
                return
            sent = self._put(program, data) if data else 0
            if sent < 0:
                return
            self._taken += sent
            if sent == len(data):
                self._input.popleft()
            else:
                self._input[0] = data[sent:]
        self._give_credit()

    def _end_input(self, program: Program) -> bool:
        """False if the terminal is not ready to be told."""
        if program.stdin >= 0 and program.stdin == program.stdout:
            return self._put(program, _END) >= 0
        if program.stdin >= 0:
            self._loop.remove_writer(program.stdin)
            program.close_stdin()
        return True

    def _put(self, program: Program, data: bytes) -> int:
        """Bytes written; -1 when it takes none now, and we are told when it does."""
        if program.stdin < 0:
            return len(data)
        try:
            sent = os.write(program.stdin, data)
        except BlockingIOError:
            self._give_credit()
            self._loop.add_writer(program.stdin, self._writable, program)
            return -1
        except OSError:
            return len(data)
        return sent

    def _writable(self, program: Program) -> None:
        self._loop.remove_writer(program.stdin)
        self._write()

    def _give_credit(self) -> None:
        if self._taken:
            taken, self._taken = self._taken, 0
            self._send(GuestCredit(self._id, taken))

    def _close(self) -> None:
        program = self._program
        if program is None:
            return
        for fd in {program.stdin, program.stdout, program.stderr} - {-1}:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
        self._program = None
        program.close()


def _end(guest: str, status: ExitStatus) -> GuestEnd:
    return GuestEnd(guest, status.code, status.signal)
