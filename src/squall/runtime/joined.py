"""A guest of a container, as the agent has it: the socket to the container's init, and what came by it."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from squall.runtime.driver import DriverError, Guest
from squall.runtime.launcher import messages
from squall.runtime.spec import ExitStatus

if TYPE_CHECKING:
    from squall.runtime.launcher.messages import Message

#: An init forks and answers at once; beyond this the container is frozen, or of an earlier release.
PATIENCE_S = 20.0


class JoinedGuest(Guest):
    """Make it with `of`."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(-1, -1)
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._begun: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[ExitStatus] = self._loop.create_future()
        connection.setblocking(False)
        self._loop.add_reader(connection, self._readable)

    @classmethod
    async def of(cls, descriptor: int) -> JoinedGuest:
        """Once the program runs. Raises `DriverError` with the reason why it does not."""
        guest = cls(socket.socket(fileno=descriptor))
        try:
            await asyncio.wait_for(guest._begun, PATIENCE_S)
        except asyncio.TimeoutError:
            guest.close()
            raise DriverError("the container does not answer; is it frozen?") from None
        except BaseException:
            guest.close()
            raise
        return guest

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._ended)

    def close_stdin(self) -> None:
        if self.stdin not in {-1, self.stdout}:
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        """The init sees the socket's end, and hangs up."""
        self._let_go()
        messages.close_all(sorted({self.stdin, self.stdout, self.stderr} - {-1}))
        self.stdin = self.stdout = self.stderr = -1

    def _readable(self) -> None:
        try:
            while True:
                self._received(*messages.receive(self._connection))
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self._let_go()

    def _received(self, message: Message, descriptors: list[int]) -> None:
        if "started" in message and not self._begun.done():
            for fd in descriptors:
                os.set_blocking(fd, False)
            self.stdin, self.stdout, self.stderr = (
                descriptors if len(descriptors) == 3 else [descriptors[0], descriptors[0], -1]
            )
            self._begun.set_result(None)
            return
        messages.close_all(descriptors)
        if "error" in message and not self._begun.done():
            self._begun.set_exception(DriverError(message["error"]))
        elif "status" in message and not self._ended.done():
            code = os.waitstatus_to_exitcode(message["status"])
            self._ended.set_result(ExitStatus(code=code) if code >= 0 else ExitStatus(signal=-code))

    def _let_go(self) -> None:
        with suppress(OSError, ValueError):  # closed before
            self._loop.remove_reader(self._connection)
        self._connection.close()
        if not self._begun.done():
            self._begun.set_exception(DriverError("the container ended before the program ran"))
            self._begun.exception()  # told to whoever waits; nobody has to
        if not self._ended.done():
            self._ended.set_result(ExitStatus(signal=9))
