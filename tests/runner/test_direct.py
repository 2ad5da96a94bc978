"""The runner's end of a direct line."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from squall.runner import protocol
from squall.runner.direct import Line
from squall.runner.protocol import direct, memfd
from squall.runner.results import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Caller:
    """The other end, the agent's descriptor, and the page."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(20)
        self.agent, self._agent_of_line = socket.socketpair()
        self.page = memfd.create()
        os.ftruncate(self.page, direct.PAGE.size)
        self.theirs = theirs
        self.answer: Answer | None = None

    def serve(self, run: Callable[[int, bytes], Answer]) -> threading.Thread:
        # Not before: what pytest's worker writes between a fixture and its test would count as printed.
        line = Line(self.theirs.detach(), os.dup(self.page))

        def work() -> None:
            self.answer = line.serve(self._agent_of_line.fileno(), run)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def ask(self, number: int, payload: bytes = b"x") -> bytes:
        self.socket.sendall(protocol.encode(protocol.INPUT, number, None, payload))
        frames = protocol.Unframer()
        while (frame := frames.next()) is None:
            data = self.socket.recv(1 << 20)
            if not data:
                return b""
            frames.feed(data)
        assert (frame.kind, frame.input) == (protocol.OUTPUT, number)
        return frame.payload

    def noted(self) -> tuple[int, float]:
        count, since, _ = direct.PAGE.unpack(os.pread(self.page, direct.PAGE.size, 0))
        return count, since

    def close(self) -> None:
        self.socket.close()
        self.theirs.close()
        self.agent.close()
        self._agent_of_line.close()
        os.close(self.page)


@pytest.fixture
def caller() -> Iterator[Caller]:
    caller = Caller()
    yield caller
    caller.close()


def reverse(_number: int, payload: bytes) -> Answer:
    return Answer({}, payload[::-1])


def test_calls_are_answered_one_after_the_other(caller: Caller) -> None:
    thread = caller.serve(reverse)
    assert [caller.ask(n, b"ab%d" % n) for n in (1, 2, 3)] == [b"1ba", b"2ba", b"3ba"]
    assert caller.noted() == (3, 0.0)
    caller.socket.close()
    thread.join(20)
    assert caller.answer == Answer({"s": "done", "n": 3})


def test_what_runs_is_noted_before_it_begins(caller: Caller) -> None:
    noted: list[tuple[int, float]] = []

    def run(_number: int, payload: bytes) -> Answer:
        noted.append(caller.noted())
        return Answer({}, payload)

    thread = caller.serve(run)
    caller.ask(1)
    caller.socket.close()
    thread.join(20)
    ((count, since),) = noted
    assert count == 1
    assert since > 0


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"s": "exception", "type": "E"}, b"pickle"),
        Answer({}, b"x" * (protocol.INLINE + 1)),
    ],
)
def test_what_may_not_go_over_the_line_ends_it(caller: Caller, answer: Answer) -> None:
    thread = caller.serve(lambda _number, _payload: answer)
    assert caller.ask(1) == b""
    thread.join(20)
    assert caller.answer == Answer({**answer.header, "n": 1}, answer.payload)


@pytest.mark.parametrize("how", ["python", "descriptor", "program"])
def test_what_was_printed_is_told_first(caller: Caller, how: str) -> None:
    def run(number: int, payload: bytes) -> Answer:
        if number == 2 and how == "python":
            print("printed", flush=True)
            os.write(2, b"")
        if number == 2 and how != "program":
            os.write(1, b"printed\n")
        if number == 2 and how == "program":
            os.waitpid(os.posix_spawn("/bin/echo", ["echo", "printed"], {}), 0)
        return Answer({}, payload)

    thread = caller.serve(run)
    assert caller.ask(1) == b"x"
    assert caller.ask(2) == b""
    thread.join(20)
    assert caller.answer == Answer({"n": 2}, b"x")


def test_a_slow_call_is_answered_the_long_way(caller: Caller) -> None:
    def run(_number: int, payload: bytes) -> Answer:
        threading.Event().wait(2 * direct.QUICK)
        return Answer({}, payload)

    thread = caller.serve(run)
    assert caller.ask(1) == b""
    thread.join(20)
    assert caller.answer == Answer({"n": 1}, b"x")


def test_when_the_agent_says_anything_the_line_ends_and_nothing_more_begins(caller: Caller) -> None:
    caller.agent.send(b"!")
    caller.socket.sendall(protocol.encode(protocol.INPUT, 1, None, b"x"))
    caller.serve(reverse).join(20)
    assert caller.answer == Answer({"s": "done", "n": 0})
    assert caller.noted() == (0, 0.0)


def test_a_silent_caller_loses_its_line(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "IDLE", 0.05)
    caller.serve(reverse).join(20)
    assert caller.answer == Answer({"s": "done", "n": 0})
    assert caller.socket.recv(1) == b""


def test_a_caller_that_stalls_within_a_call_keeps_nobody_waiting(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = protocol.encode(protocol.INPUT, 1, None, b"x")
    caller.socket.sendall(whole[:3])
    thread = caller.serve(reverse)
    caller.agent.send(b"!")
    thread.join(20)
    assert caller.answer == Answer({"s": "done", "n": 0})
    monkeypatch.setattr(direct, "IDLE", 0.2)
    other = Caller()
    try:
        thread = other.serve(reverse)
        for piece in whole[:-1]:  # however little by little
            try:
                other.socket.sendall(bytes([piece]))
            except OSError:
                break
            thread.join(0.05)
        thread.join(20)
        assert other.answer == Answer({"s": "done", "n": 0})
    finally:
        other.close()


def test_a_caller_that_does_not_read_gets_its_answer_the_long_way(caller: Caller) -> None:
    caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    caller.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    answer = Answer({}, b"y" * protocol.INLINE)
    thread = caller.serve(lambda _number, _payload: answer)
    caller.socket.sendall(protocol.encode(protocol.INPUT, 1, None, b"x"))
    thread.join(20)
    assert caller.answer == Answer({"n": 1}, answer.payload)


def test_the_end_is_heard_also_where_user_code_has_forked(caller: Caller) -> None:
    copy = caller.theirs.dup()
    caller.agent.send(b"!")
    caller.serve(reverse).join(20)
    assert caller.socket.recv(1) == b""
    copy.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 100,
        protocol.encode(protocol.INPUT, 7, None, b"out of turn"),
        protocol.encode(protocol.STOP),
    ],
)
def test_nonsense_ends_it(caller: Caller, data: bytes) -> None:
    caller.socket.sendall(data)
    caller.serve(reverse).join(20)
    assert caller.answer == Answer({"s": "done", "n": 0})
