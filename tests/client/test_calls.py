"""The state of a call: delivered once, told again as needed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from squall.client import calls
from squall.client.calls import CallState
from squall.client.core import Credentials, Session
from squall.client.reconnect import PAUSES_S, Reconnect, fatal
from squall.exception import AuthError
from squall.wire import codec
from squall.wire import messages as m
from squall.wire.parcels import new_name
from squall.wire.values import InputItem, Outcome, OutputItem, Payload
from squall.wire.websocket import Refused

if TYPE_CHECKING:
    import pytest


def output(index: int) -> OutputItem:
    return OutputItem(index, Outcome("ok"))


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=10))
def test_each_output_is_given_once_and_acknowledged_each_time(batches: list[list[int]]) -> None:
    call = CallState("fc-1", "fu-1", "map")
    call.send([InputItem(i, Payload()) for i in range(10)], last=True)
    got: list[int] = []
    acks: list[int] = []
    for batch in batches:
        call.outputs(m.Outputs("fc-1", [output(i) for i in batch]))
        while (event := call.take()) is not None:
            got.append(event.index)
        received = call.received()
        acks += received.indexes if received else []
    assert sorted(got) == sorted(set().union(*batches))
    assert sorted(acks) == sorted(i for batch in batches for i in batch)


def test_again_tells_what_has_no_answer() -> None:
    call = CallState("fc-1", "fu-1", "map", parent="fc-0:1")
    call.send([InputItem(i, Payload(b"x")) for i in range(3)], last=True)
    call.outputs(m.Outputs("fc-1", [output(1)]))
    (inputs,) = call.again(new_session=False)
    assert isinstance(inputs, m.Inputs)
    assert [i.index for i in inputs.items] == [0, 2]
    assert (inputs.last, inputs.parent) == (True, "fc-0:1")


def test_again_tells_that_no_more_follow() -> None:
    call = CallState("fc-1", "fu-1", "map")
    call.send([InputItem(0, Payload())], last=False)
    call.outputs(m.Outputs("fc-1", [output(0)]))
    call.send([], last=True)
    assert call.again(new_session=False) == [m.Inputs("fc-1", "fu-1", "map", [])]


def test_again_does_not_send_what_is_on_the_server_s_disk() -> None:
    call = CallState("fc-1", "fu-1", "map", durable=True)
    call.send([InputItem(i, Payload()) for i in range(3)], last=False)
    call.accepted(m.Accepted("fc-1", 2))
    call.outputs(m.Outputs("fc-1", [output(0)]))
    inputs, attach = call.again(new_session=True)
    assert isinstance(inputs, m.Inputs)
    assert [i.index for i in inputs.items] == [2]
    assert attach == m.Attach("fc-1", 1)


def test_reconnecting_takes_longer_each_time_and_has_an_end() -> None:
    reconnect = Reconnect(patience=10)
    assert not reconnect.active
    pauses = []
    for _ in range(8):
        reconnect.begin(0.0)
        pauses.append(reconnect.pause(0.0))
    assert pauses == [*PAUSES_S, PAUSES_S[-1], PAUSES_S[-1]]
    assert reconnect.pause(5.0) == 0
    assert not reconnect.exhausted(9.9)
    assert reconnect.exhausted(10.0)
    reconnect.reset()
    assert not reconnect.exhausted(1000.0)


def test_what_is_said_again_is_said_before_it_is_acknowledged() -> None:
    """Else the server, which forgets what is acknowledged, takes it for a new call and runs it again."""
    session = Session(Credentials(), time.monotonic)
    call = CallState("fc-1", "fu-1", "unary")

    def reconnect() -> int:
        generation = session.connected()
        assert session.take(generation)
        session.received(codec.encode([m.Welcome("se-1", "1", "default", "main")]))
        return generation

    session.add_call(call)
    session.send(call, [InputItem(0, Payload(b"x"))], last=True)
    reconnect()
    generation = reconnect()
    session.received(codec.encode([m.Outputs("fc-1", [output(0)])]))
    assert session.next_event(call)
    said = [type(message) for message in codec.decode(session.take(generation) or b"")]
    assert said == [m.Inputs, m.Received]


def test_what_no_second_attempt_can_help() -> None:
    assert fatal(AuthError("no"))
    assert fatal(Refused(404, "Not Found"))
    assert not fatal(Refused(503, "Service Unavailable"))
    assert not fatal(ConnectionRefusedError())


def test_only_what_was_asked_for_is_kept() -> None:
    call = CallState("fc-1", attach=(3, 5))
    call.outputs(m.Outputs("fc-1", [output(i) for i in range(8)]))
    events = [call.take(), call.take(), call.take()]
    assert [event and event.index for event in events] == [3, 4, None]
    assert call.again(new_session=True) == [m.Attach("fc-1", 5, 5)]


def test_that_a_call_without_inputs_was_accepted_is_told_too() -> None:
    call = CallState("fc-1", "fu-1", "map", durable=True)
    call.send([], last=True)
    assert not call.is_accepted(0)
    call.accepted(m.Accepted("fc-1", 0))
    assert call.is_accepted(0)


def chunk(first: int, count: int) -> InputItem:
    data = bytes(range(first, first + count))
    return InputItem(first, Payload(data, size=count), sizes=[1] * count)


def outputs(call: CallState, *items: OutputItem) -> list[tuple[int, int]]:
    """What comes in, as the caller gets it: index and count."""
    call.outputs(m.Outputs("fc-1", list(items), spread=3))
    got = []
    while (event := call.take()) is not None:
        assert isinstance(event, OutputItem)
        got.append((event.index, event.count))
    return got


def packed(first: int, count: int) -> OutputItem:
    return OutputItem(first, Outcome("ok", Payload(b"r" * count)), count=count, sizes=[1] * count)


def waiting(call: CallState) -> list[int]:
    """The indexes of what a new server would be told."""
    (inputs,) = call.again(new_session=True)
    assert isinstance(inputs, m.Inputs)
    return [index for item in inputs.items for index in range(item.index, item.index + item.count)]


def test_a_chunk_comes_once() -> None:
    call = CallState("fc-1", "fu-1", "map")
    call.send([chunk(0, 4), chunk(4, 4)], last=True)
    assert outputs(call, packed(4, 4)) == [(4, 4)]
    assert call.spread == 3
    assert outputs(call, packed(4, 4)) == []
    assert call.received() == m.Received("fc-1", [4, 4])
    assert waiting(call) == [0, 1, 2, 3]


def test_the_rest_of_a_chunk_is_still_to_come() -> None:
    call = CallState("fc-1", "fu-1", "map")
    call.send([chunk(0, 4), chunk(4, 4)], last=True)
    assert outputs(call, packed(0, 2)) == [(0, 2)]
    assert sorted(waiting(call)) == [2, 3, 4, 5, 6, 7]
    assert outputs(call, OutputItem(3, Outcome("failed"))) == [(3, 1)]
    assert sorted(waiting(call)) == [2, 4, 5, 6, 7]
    assert outputs(call, output(6)) == [(6, 1)]
    (again,) = call.again(new_session=True)
    assert isinstance(again, m.Inputs)
    assert {item.index: item.payload.data for item in again.items} == {
        2: b"\2",
        4: b"\4",
        5: b"\5",
        7: b"\7",
    }


def test_of_a_chunk_some_of_which_are_known_the_others_come() -> None:
    call = CallState("fc-1", "fu-1", "map")
    call.send([chunk(0, 4)], last=True)
    assert outputs(call, output(1)) == [(1, 1)]
    assert outputs(call, packed(0, 4)) == [(0, 1), (2, 1), (3, 1)]


def test_a_chunks_results_that_are_lost_with_their_server_are_asked_for_again() -> None:
    call = CallState("fc-1", "fu-1", "map")
    call.send([chunk(0, 4)], last=True)
    name = new_name()
    lent = OutputItem(0, Outcome("ok", Payload(blob=name, size=4)), count=4, sizes=[1] * 4)
    assert outputs(call, lent) == [(0, 4)]
    (again,) = call.lost(0) or []
    assert isinstance(again, m.Inputs)
    assert [item.count for item in again.items] == [4]
    assert outputs(call, packed(0, 4)) == [(0, 4)]


def test_ids_of_calls_are_in_the_order_of_time_and_no_two_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [1_700_000_000_000_000_000, 1_700_000_000_001_000_000, 1_800_000_000_000_000_000]
    found: list[str] = []
    for moment in times:
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment)
        found.append(calls.new_call_id())
        assert calls.new_call_id() != found[-1]
    assert found == sorted(found)
    assert {len(call) for call in found} == {35}
