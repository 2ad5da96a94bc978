"""Guests: programs that join a running container (`squall container exec`), started by its own init.

Nothing enters the container for them. The init is in all of its namespaces and in its control group already,
and forks a guest exactly as it forked the container's own program. Who asked holds a socket of the guest's:
by it come the descriptors to talk to the program with, and its end; when it closes, the guest is hung up.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from squall.runtime import terminals
from squall.runtime.launcher import messages, program
from squall.runtime.linux import processes

if TYPE_CHECKING:
    from squall.runtime.launcher.messages import Message

#: Guests of one container at a time.
MOST = 32
#: From SIGHUP to SIGKILL for one that nobody talks to any more (seconds).
HANG_UP_S = 5.0
#: Looks for what is left of a session: what forks faster than it is killed is the container's own trouble.
_ROUNDS = 20

_IS_FULL = f"{MOST} programs have joined the container already; end one"


class Guest:
    """One of them. `mine` are our copies of the ends that its asker is to get."""

    def __init__(self, connection: socket.socket, pid: int, complaints: int, mine: list[int]) -> None:
        self.connection = connection
        self.pid = pid
        self.complaints = complaints
        self.deadline: float | None = None
        self._mine = mine

    def begun(self, complaint: str) -> None:
        """It runs the tenant's code, or cannot, for this reason."""
        os.close(self.complaints)
        self.complaints = -1
        _tell(self.connection, *(({"error": complaint},) if complaint else ({"started": True}, self._mine)))
        messages.close_all(self._mine)
        self._mine = []

    def hang_up(self) -> None:
        self.deadline = time.monotonic() + HANG_UP_S
        for number in (signal.SIGHUP, signal.SIGCONT):
            with suppress(ProcessLookupError):  # not a leader yet
                os.killpg(self.pid, number)

    def ended(self, status: int) -> None:
        _tell(self.connection, {"status": status})
        self.connection.close()
        messages.close_all(self._mine)


class Guests:
    """The life of an init once the container's own program, `main`, runs.

    `start` is what that program was started with.
    """

    def __init__(self, control: socket.socket, start: Message, main: int, program_filter: bytes) -> None:
        self._control = control
        self._start = start
        self._main = main
        self._filter = program_filter
        self._guests: dict[int, Guest] = {}
        self._selector = selectors.PollSelector()

    def run(self) -> int:
        """Reap all that ends here until the main program does; its wait status."""
        wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._selector.register(wake, selectors.EVENT_READ, lambda: os.read(wake, 4096))
        self._selector.register(self._control, selectors.EVENT_READ, self._requested)
        while True:
            status = self._reap()
            if status is not None:
                return status
            for key, _ in self._selector.select(self._patience()):
                if self._selector.get_map().get(key.fd) is key:  # not closed by an event before it
                    key.data()

    def _patience(self) -> float | None:
        """Kill what is late; seconds until the next one will be."""
        now = time.monotonic()
        deadlines = {g.pid: g.deadline for g in self._guests.values() if g.deadline is not None}
        for pid, deadline in deadlines.items():
            if deadline <= now:
                kill_session(pid)
        return min((max(d - now, 0.2) for d in deadlines.values()), default=None)

    def _reap(self) -> int | None:
        """The main program's wait status if it has ended. What a guest leaves of its session is killed.

        That comes before its number is free, and could be somebody else's.
        """
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return None
            if found is None:
                return None
            guest = self._guests.pop(found.si_pid, None)
            if guest is not None:
                kill_session(guest.pid)
            _, status = os.waitpid(found.si_pid, 0)
            if found.si_pid == self._main:
                return status
            if guest is not None:
                self._ended(guest, status)

    def _ended(self, guest: Guest, status: int) -> None:
        if guest.complaints >= 0:
            self._begun(guest)
        self._leave(guest.connection)
        guest.ended(status)

    def _requested(self) -> None:
        try:
            message, descriptors = messages.receive(self._control)
        except (OSError, ValueError):  # neither launcher nor keeper is there any more
            self._leave(self._control)
            return
        connection = socket.socket(fileno=descriptors[0])
        connection.setblocking(False)
        try:
            self._admit(message["guest"], connection)
        except (OSError, program.ProgramError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            _tell(connection, {"error": f"the container takes no further program: {reason}"})
            connection.close()

    def _admit(self, command: Message, connection: socket.socket) -> None:
        if len(self._guests) >= MOST:
            raise program.ProgramError(_IS_FULL)
        inside, outside = _terminal(*command["terminal"]) if command["terminal"] else _pipes()
        start = {
            "argv": command["argv"],
            "env": {**self._start["env"], **command["env"]},
            "cwd": command["cwd"] or self._start["cwd"],
        }
        try:
            pid, complaints = program.fork(
                start, inside, self._filter, terminal=command["terminal"] is not None
            )
        except OSError:
            messages.close_all(outside)
            raise
        finally:
            messages.close_all(sorted(set(inside)))
        guest = self._guests[pid] = Guest(connection, pid, complaints, outside)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._heard(guest))
        self._selector.register(complaints, selectors.EVENT_READ, lambda: self._begun(guest))

    def _begun(self, guest: Guest) -> None:
        self._leave(guest.complaints)
        guest.begun(os.read(guest.complaints, program.COMPLAINT).decode(errors="replace"))

    def _heard(self, guest: Guest) -> None:
        """Nothing is ever said to us: it is closed."""
        self._leave(guest.connection)
        guest.hang_up()

    def _leave(self, file: socket.socket | int) -> None:
        if file in self._selector.get_map():
            self._selector.unregister(file)


def kill_session(leader: int) -> None:
    """Kill all processes of a session. Its leader is not reaped, so that the number is surely its own."""
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        found = set(processes.of_session(leader)) - killed
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= found


def _terminal(rows: int, columns: int) -> tuple[list[int], list[int]]:
    """The program's three descriptors, and what its asker gets: a terminal of the container's own devpts."""
    master, slave = terminals.open_pair()
    terminals.resize(master, rows, columns)
    return [slave] * 3, [master]


def _pipes() -> tuple[list[int], list[int]]:
    (stdin, write), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
    return [stdin, stdout, stderr], [write, out, err]


def _tell(connection: socket.socket, message: Message, descriptors: list[int] | None = None) -> None:
    """Who asked may be gone."""
    with suppress(OSError):
        messages.send(connection, message, descriptors)
