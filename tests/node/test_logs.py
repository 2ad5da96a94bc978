"""Whole lines, in order, bounded, and what is lost is counted."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from squall.node.logs import BURST, LINE, RATE, Lines, Logs
from tests.node.fake_server import until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from squall.wire.messages import NodeLogs
    from squall.wire.values import LogItem


def test_lines_stay_whole() -> None:
    lines = Lines()
    assert lines.feed(b"one\ntw") == b"one\n"
    assert lines.feed(b"o\nthree") == b"two\n"
    assert lines.flush() == b"three"
    assert lines.flush() == b""


def test_an_unfinished_line_does_not_wait_for_ever() -> None:
    lines = Lines()
    lines.feed(b"prompt> ")
    assert [lines.turn() for _ in range(4)] == [b"", b"", b"prompt> ", b""]


def test_an_endless_line_comes_in_pieces() -> None:
    lines = Lines()
    assert lines.feed(b"x" * (LINE + 1)) == b"x" * (LINE + 1)


class Pipes:
    """One container's outputs, and what came of them."""

    def __init__(self, *, connected: bool = True) -> None:
        self.connected = connected
        self.items: list[LogItem] = []
        self.logs = Logs(self.take, lambda: self.connected)
        out, self.out = os.pipe()
        err, self.err = os.pipe()
        self.logs.open("ct-1", "f", out, err)

    def take(self, message: NodeLogs) -> None:
        self.items += message.items

    def text(self, fd: int = 1) -> bytes:
        return b"".join(i.data for i in self.items if i.fd == fd)

    def close(self) -> None:
        os.close(self.out)
        os.close(self.err)
        self.logs.stop()


def scenario(body: Callable[[Pipes], Coroutine[None, None, None]], *, connected: bool = True) -> None:
    async def whole() -> None:
        pipes = Pipes(connected=connected)
        try:
            await body(pipes)
        finally:
            pipes.close()

    asyncio.run(whole())


def test_both_outputs_arrive() -> None:
    async def body(pipes: Pipes) -> None:
        os.write(pipes.out, b"out\n")
        os.write(pipes.err, b"err\n")
        await until(lambda: len(pipes.items) == 2)
        assert [(i.container, i.function, i.fd, i.data) for i in pipes.items] == [
            ("ct-1", "f", 1, b"out\n"),
            ("ct-1", "f", 2, b"err\n"),
        ]

    scenario(body)


def test_pull_takes_what_is_there_now() -> None:
    async def body(pipes: Pipes) -> None:
        os.write(pipes.out, b"half a line")
        pipes.logs.pull("ct-1")
        assert pipes.text() == b"half a line"

    scenario(body)


def test_close_takes_the_rest() -> None:
    async def body(pipes: Pipes) -> None:
        os.write(pipes.out, b"last words")
        pipes.logs.close("ct-1")
        assert pipes.text() == b"last words"

    scenario(body)


def test_beyond_the_bound_lines_are_dropped_and_counted() -> None:
    async def body(pipes: Pipes) -> None:
        line = b"y" * 1023 + b"\n"
        written = 0
        os.set_blocking(pipes.out, False)
        while written < 2 * BURST // len(line):
            try:
                written += os.write(pipes.out, line * 32) // len(line)
            except BlockingIOError:  # noqa: PERF203
                await asyncio.sleep(0)
        await asyncio.sleep(0.3)
        dropped = sum(i.dropped for i in pipes.items)
        assert dropped > 0
        assert dropped + pipes.text().count(b"\n") == written
        assert len(pipes.text()) <= BURST + 100 * RATE

    scenario(body)


def test_what_nobody_can_take_is_kept_up_to_a_bound() -> None:
    async def body(pipes: Pipes) -> None:
        pipes.logs.KEPT = 100
        for n in range(20):
            os.write(pipes.out, b"%08d\n" % n)
            pipes.logs.pull("ct-1")
        pipes.connected = True
        pipes.logs.reconnected()
        assert pipes.text().startswith(b"00000009\n")
        assert pipes.items[0].dropped == 9

    scenario(body, connected=False)
