"""When a function gets a direct line, and what its caller makes of whatever comes over it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from squall import exception
from squall.client import direct
from squall.client.api import Call, ServiceRefusal
from squall.client.direct import CALLS, LONGEST_PAUSE, PAUSE, QUICK, WORTH, Habit, Lines
from squall.runner import protocol
from squall.wire.values import ErrorInfo, InputItem, Outcome, OutputItem, Payload

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from squall.client.api import Event

KEY = ("fu-1", "")


# ----------------------------------------------------------------------------------------------- the habit


def quick() -> Habit:
    habit = Habit()
    for _ in range(CALLS):
        habit.called(QUICK)
    return habit


def test_a_few_quick_calls_are_worth_a_line() -> None:
    habit = Habit()
    for _ in range(CALLS):
        assert not habit.wants_line(0)
        habit.called(QUICK)
    assert habit.wants_line(0)


def test_one_slow_call_is_the_end_of_that() -> None:
    habit = quick()
    habit.called(QUICK * 2)
    assert not habit.wants_line(0)


def test_lines_that_are_not_worth_it_come_ever_more_seldom() -> None:
    habit, now, pauses = quick(), 100.0, []
    for _ in range(10):
        habit.ended(WORTH - 1, now)
        pauses.append(habit.not_before - now)
        assert not habit.wants_line(now + pauses[-1] - 0.01)
        now += pauses[-1]
        assert habit.wants_line(now)
    assert pauses[:3] == [PAUSE, 2 * PAUSE, 4 * PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    habit.ended(WORTH, now)
    assert habit.wants_line(now)


def test_a_function_without_lines_is_not_asked_again() -> None:
    habit = quick()
    habit.refused()
    assert not habit.wants_line(1e12)


# ------------------------------------------------------------------------------------------------- a line


class Server(Call):
    """The call of a line: `outcome` is what the server tells at its end."""

    id = "fc-1"

    def __init__(self) -> None:
        self.outcome: Outcome | Exception = Outcome("done")
        self.told = threading.Event()
        self.cancelled = self.closed = False

    def send(self, items: Sequence[InputItem], *, last: bool) -> None:
        assert last
        assert [item.payload.blob for item in items] == ["so-1"]

    def next(self, timeout: float | None = None) -> Event:
        if not self.told.wait(timeout):
            raise exception.TimeoutError("nothing came")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return OutputItem(0, self.outcome)

    async def next_async(self, timeout: float | None = None) -> Event:
        raise NotImplementedError

    def accepted(self, upto: int, timeout: float | None = None) -> None:
        raise NotImplementedError

    async def accepted_async(self, upto: int, timeout: float | None = None) -> None:
        raise NotImplementedError

    def credit(self, index: int, upto: int) -> None:
        raise NotImplementedError

    def cancel(self, *, terminate: bool = False) -> None:
        assert not terminate
        self.cancelled = True

    def close(self) -> None:
        self.closed = True


class World:
    """A client's lines, and the container's end of the newest."""

    def __init__(self) -> None:
        self.server = Server()
        self.far: socket.socket | None = None
        self.lines = Lines(self._offer)
        for _ in range(CALLS):
            self.lines.called(KEY, 0.0)

    def _offer(self, sock: socket.socket) -> str:
        self.far = sock.dup()
        self.far.settimeout(20)
        return "so-1"

    def line(self) -> direct.Line:
        line = self.lines.take(KEY, lambda: self.server)
        assert line is not None
        return line

    def ends(self, outcome: Outcome | Exception) -> None:
        """As the runner does it: the line first."""
        self.server.outcome = outcome
        assert self.far is not None
        self.far.close()
        self.server.told.set()

    def answer(self, data: bytes) -> None:
        assert self.far is not None
        self.far.sendall(data)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.lines.close()
    if world.far is not None:
        world.far.close()


def output(number: int, payload: bytes) -> bytes:
    return protocol.encode(protocol.OUTPUT, number, None, payload)


def test_results_come_over_the_line(world: World) -> None:
    line = world.line()
    for number in (1, 2):
        world.answer(output(number, b"result %d" % number))
        assert line.ask(b"arguments") == b"result %d" % number
        assert world.lines.take(KEY, lambda: world.server) is line, "it is idle again"
    assert world.far is not None
    frame, _ = protocol.decode(world.far.recv(1 << 16)) or (None, 0)
    assert frame is not None
    assert (frame.kind, frame.input, frame.payload) == (protocol.INPUT, 1, b"arguments")
    line.hang_up()


def test_a_function_that_was_not_called_yet_has_no_line(world: World) -> None:
    assert world.lines.take(("fu-2", ""), lambda: world.server) is None


@pytest.mark.parametrize("status", ["exception", "timeout", "failed", "ok"])
def test_the_outcome_of_the_last_call_begun_is_that_of_the_line(world: World, status: str) -> None:
    line = world.line()
    world.ends(Outcome(status, Payload(b"x"), ErrorInfo("E", "e"), yields=1))
    outcome = line.ask(b"")
    assert isinstance(outcome, Outcome)
    assert outcome.status == status
    assert world.server.closed


def test_a_call_that_was_not_begun_goes_by_way_of_the_server(world: World) -> None:
    line = world.line()
    world.answer(output(1, b"one"))
    assert line.ask(b"") == b"one"
    world.ends(Outcome("failed", error=ErrorInfo("RemoteError", "out of memory"), yields=1))
    assert line.ask(b"") is None


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\xff" * 64, "no frame"),
        (output(2, b"of another call"), "another number"),
        (protocol.encode(protocol.OUTPUT, 1, {"s": "exception"}, b""), "a header"),
        (protocol.encode(protocol.YIELD, 1, None, b""), "another kind"),
    ],
)
def test_nonsense_from_a_container_is_believed_by_nobody(world: World, data: bytes, what: str) -> None:
    line = world.line()
    world.answer(data)
    world.server.told.set()
    assert line.ask(b"") is None, what
    assert world.far is not None
    assert world.far.recv(1 << 16), "the call that was sent"
    assert world.far.recv(1) == b"", "and then we hang up"


def test_a_refused_line_is_not_asked_for_again(world: World) -> None:
    line = world.line()
    world.ends(ServiceRefusal("invalid", "function f takes no direct calls"))
    assert line.ask(b"") is None
    world.lines._functions[KEY].habit.pause = 0.0
    assert world.lines.take(KEY, lambda: world.server) is None


def test_no_container_is_free_for_a_line_now(world: World) -> None:
    line = world.line()
    world.ends(Outcome("failed", error=ErrorInfo("RemoteError", "no container is free for a line")))
    assert line.ask(b"") is None
    assert not world.lines._functions[KEY].habit.wants_line(0)


def test_the_server_tells_the_end_where_the_line_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "PATIENCE_US", 50_000)
    line = world.line()
    world.server.outcome = Outcome("failed", error=ErrorInfo("RemoteError", "lost"))
    world.server.told.set()
    assert line.ask(b"") is None


def test_who_stops_waiting_cancels(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    line = world.line()

    def interrupted(_line: direct.Line) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(direct.Line, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        line.ask(b"")
    assert world.server.cancelled
    assert world.server.closed
    assert world.lines._functions[KEY].idle == []


def test_an_interrupt_after_the_answer_leaves_a_line_that_works(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = world.line()
    answer = direct.Line._answer

    def interrupted(line: direct.Line, arguments: bytes) -> bytes | None:
        answer(line, arguments)
        raise KeyboardInterrupt

    world.answer(output(1, b""))
    with monkeypatch.context() as patch:
        patch.setattr(direct.Line, "_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            line.ask(b"")
    assert world.lines._functions[KEY].idle == [], "a line that has hung up is nobody's"


def test_a_call_on_a_line_that_has_hung_up_goes_by_way_of_the_server(world: World) -> None:
    line = world.line()
    line.hang_up()
    assert line.ask(b"") is None


def test_a_closed_client_keeps_no_line(world: World) -> None:
    line = world.line()
    world.lines.close()
    world.answer(output(1, b"result"))
    assert line.ask(b"") == b"result"
    assert world.lines._functions[KEY].idle == []
    assert world.server.closed


def test_lines_that_nobody_uses_are_let_go_of(world: World) -> None:
    line = world.line()
    world.answer(output(1, b""))
    line.ask(b"")
    line.used -= 60
    assert world.far is not None
    world.far.close()
    for _ in range(CALLS):
        world.lines.called(("fu-2", ""), 0.0)
    other = world.lines.take(("fu-2", ""), Server)
    assert other is not None
    other.hang_up()
    assert world.lines._functions[KEY].idle == []


def test_a_client_that_closes_hangs_up(world: World) -> None:
    line = world.line()
    world.answer(output(1, b""))
    line.ask(b"")
    world.lines.close()
    assert world.far is not None
    assert world.far.recv(1 << 16), "the call"
    assert world.far.recv(1) == b""


def test_without_a_place_for_the_socket_there_is_no_line() -> None:
    offers: Callable[[socket.socket], str] = lambda _sock: ""
    lines = Lines(offers)
    for _ in range(CALLS):
        lines.called(KEY, 0.0)
    assert lines.take(KEY, Server) is None
