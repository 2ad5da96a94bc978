"""A direct call: one caller's calls, over a socket of its own, one after the other (`protocol.direct`)."""

from __future__ import annotations

import mmap
import os
import select
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from squall.runner import protocol, streams
from squall.runner.protocol import BadFrame, direct
from squall.runner.results import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 256 << 10


class Line:
    """Owns both descriptors."""

    def __init__(self, fd: int, page: int) -> None:
        self._socket = socket.socket(fileno=fd)
        # A caller that does not read gets its answer by way of the server.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(direct.IDLE), 0))
        self._frames = protocol.Unframer()
        self._prints = streams.Prints()
        try:
            self._page = mmap.mmap(page, direct.PAGE.size)
        finally:
            os.close(page)

    def close(self) -> None:
        with suppress(OSError):  # also where a process that user code has forked still has it
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._page.close()
        self._prints.close()

    def serve(self, agent: int, run: Callable[[int, bytes], Answer]) -> Answer:
        """Until the caller has gone or is silent, or the agent (its descriptor) says anything.

        `run` makes one call, by its number and its arguments. What comes back is the answer to the last one,
        if it has not got one over the line. The line is closed then.
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(agent, select.POLLIN)
        number, pid, seconds = 0, os.getpid(), 0.0
        try:
            while (payload := self._next(poll, agent, number + 1)) is not None:
                number += 1
                began = time.monotonic()
                direct.PAGE.pack_into(self._page, 0, number, began, seconds)
                answer = run(number, payload)
                if os.getpid() != pid:  # user code forked, and the child came back out of it
                    os._exit(0)
                took = time.monotonic() - began
                seconds += took
                direct.PAGE.pack_into(self._page, 0, number, 0.0, seconds)
                result = self._quick_result(answer, took)
                if result is None or not self._sent(number, result):
                    return Answer({**answer.header, "n": number}, answer.payload)
        finally:
            self.close()
        return Answer({"s": "done", "n": number})

    def _next(self, poll: select.poll, agent: int, number: int) -> bytes | None:
        """The arguments of the next call; None: there is none, or it does not come in time, or alone."""
        try:
            deadline = time.monotonic() + direct.IDLE
            while (frame := self._frames.next()) is None:
                ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
                if not ready or any(fd == agent for fd, _ in ready):
                    return None
                data = self._socket.recv(_CHUNK, socket.MSG_DONTWAIT)
                if not data:
                    return None
                self._frames.feed(data)
        except (OSError, BadFrame):  # the caller is gone, or talks nonsense: it hears of the end of the line
            return None
        return frame.payload if (frame.kind, frame.input) == (protocol.INPUT, number) else None

    def _sent(self, number: int, result: bytes) -> bool:
        try:
            self._socket.sendall(protocol.encode(protocol.OUTPUT, number, None, result))
        except OSError:
            return False
        return True

    def _quick_result(self, answer: Answer, took: float) -> bytes | None:
        """The result, if it may overtake all else that the agent and the server are told."""
        streams.flush()
        result = answer.payload
        printed = self._prints.any()
        if printed or answer.header or not isinstance(result, bytes) or len(result) > protocol.INLINE:
            return None
        return result if took <= direct.QUICK else None
