"""The queue of one container: order, window, and who counts as running."""

from __future__ import annotations

import pytest

from squall.node.inputs import AHEAD_MOST, Attempt, Inputs, OutOfTurnError
from squall.wire.messages import NodeInput
from squall.wire.values import Payload


def item(n: int, **more: int) -> NodeInput:
    return NodeInput(f"fc-1:{n}", 1, Payload(), "fc-1", credit=more.get("credit", 0))


def queue(count: int) -> Inputs:
    inputs = Inputs()
    inputs.add(item(n) for n in range(count))
    return inputs


def take_all(inputs: Inputs, now: float) -> list[int]:
    taken = []
    while (attempt := inputs.take(now)) is not None:
        taken.append(attempt.number)
    return taken


def test_one_runs_and_one_is_ahead_until_durations_are_known() -> None:
    inputs = queue(5)
    assert take_all(inputs, 0.0) == [1, 2]
    assert inputs.running is not None
    assert inputs.running.number == 1


@pytest.mark.parametrize(
    ("seconds", "window"), [(10.0, 2), (0.005, 2), (0.001, 6), (0.0005, 11), (0.0, 1 + AHEAD_MOST)]
)
def test_the_window_is_five_milliseconds_of_work(seconds: float, window: int) -> None:
    inputs = queue(1000)
    take_all(inputs, 0.0)
    inputs.finish(1, seconds)
    assert inputs.window == window


def test_the_next_one_begins_when_the_running_one_ends() -> None:
    inputs = queue(3)
    take_all(inputs, 1.0)
    attempt, seconds = inputs.finish(1, 4.0)
    assert (attempt.number, seconds) == (1, 3.0)
    assert inputs.running is not None
    assert (inputs.running.number, inputs.running.began) == (2, 4.0)
    assert inputs.finish(2, 4.5)[1] == 0.5


@pytest.mark.parametrize("number", [2, 3, 99])
def test_only_the_running_one_can_be_answered(number: int) -> None:
    inputs = queue(3)
    take_all(inputs, 0.0)
    with pytest.raises(OutOfTurnError):
        inputs.finish(number, 1.0)


def test_an_answer_twice() -> None:
    inputs = queue(1)
    take_all(inputs, 0.0)
    inputs.finish(1, 1.0)
    with pytest.raises(OutOfTurnError):
        inputs.finish(1, 1.0)


def test_dropping_one_that_waits_here_and_one_that_the_runner_has() -> None:
    inputs = queue(4)
    take_all(inputs, 0.0)
    here, there = inputs.find(("fc-1:3", 1)), inputs.find(("fc-1:1", 1))
    assert here is not None
    assert there is not None
    assert inputs.drop(here) is False
    assert inputs.drop(there) is True
    assert [a.input.input for a in inputs.all()] == ["fc-1:0", "fc-1:2"]
    assert len(inputs) == 2
    inputs.finish(1, 1.0)
    assert inputs.finish(2, 1.0)[0].dropped
    assert inputs.window == 2  # what was dropped says nothing of durations


def test_unbegun_are_all_but_the_running_one() -> None:
    inputs = queue(4)
    take_all(inputs, 0.0)
    assert [a.number for a in inputs.unbegun()] == [2, 3, 4]


def test_adopted_ones_keep_their_numbers() -> None:
    inputs = Inputs()
    inputs.adopt(7, item(0), 5.0)
    inputs.adopt(9, item(1), 5.0)
    inputs.add([item(2)])
    assert [a.number for a in inputs.all()] == [7, 9, 10]
    inputs.forget(7, 6.0)
    assert inputs.running is not None
    assert (inputs.running.number, inputs.running.began) == (9, 6.0)


def test_yields_have_their_turn_and_their_credit() -> None:
    attempt = Attempt(1, item(0, credit=2), credit=2)
    assert attempt.may_yield(0)
    assert not attempt.may_yield(1)
    assert not attempt.may_yield("0")
    attempt.yields = 2
    assert not attempt.may_yield(2)


def test_an_adopted_generator_goes_on_where_it_was() -> None:
    attempt = Attempt(1, item(0), yields=-1)
    assert attempt.may_yield(17)
    attempt.yields += 1
    assert attempt.may_yield(18)
    assert not attempt.may_yield(17)


def test_kept_yields_are_bounded_in_number_and_size() -> None:
    attempt = Attempt(1, item(0, credit=64))
    for n in range(100):
        attempt.keep(n, Payload(b"x"))
    assert [n for n, _ in attempt.kept] == list(range(36, 100))
    for n in range(100, 110):
        attempt.keep(n, Payload(bytes(2 << 20)))
    assert [n for n, _ in attempt.kept] == list(range(106, 110))
