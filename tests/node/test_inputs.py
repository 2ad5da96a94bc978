"""The queue of one container: order, window, and who counts as running."""

from __future__ import annotations

import pytest

from squall.node.inputs import AHEAD_MOST, Attempt, Inputs, OutOfTurnError
from squall.wire.messages import NodeInput
from squall.wire.values import Payload


def item(n: int, **more: int) -> NodeInput:
    credit = more.get("credit", 0)
    return NodeInput(f"fc-1:{n}", 1, Payload(), "fc-1", generator=credit > 0, credit=credit)


def queue(count: int) -> Inputs:
    inputs = Inputs()
    inputs.add(item(n) for n in range(count))
    return inputs


def running(inputs: Inputs) -> list[tuple[int, float]]:
    return [(a.number, a.began) for a in inputs.begun]


def take_all(inputs: Inputs, now: float) -> list[int]:
    taken = []
    while (attempt := inputs.take(now)) is not None:
        taken.append(attempt.number)
    return taken


def test_one_runs_and_one_is_ahead_until_durations_are_known() -> None:
    inputs = queue(5)
    assert take_all(inputs, 0.0) == [1, 2]
    assert running(inputs) == [(1, 0.0)]


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
    assert running(inputs) == [(2, 4.0)]
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
    assert running(inputs) == [(7, 5.0)]
    inputs.forget(7, 6.0)
    assert running(inputs) == [(9, 6.0)]


def test_yields_have_their_turn_and_their_credit() -> None:
    attempt = Attempt(1, item(0, credit=2), credit=2)
    assert attempt.may_yield(0)
    assert not attempt.may_yield(1)
    assert not attempt.may_yield("0")
    attempt.yields = 2
    assert not attempt.may_yield(2)


def test_what_is_no_generator_does_not_yield() -> None:
    assert not Attempt(1, item(0), credit=5).may_yield(0)


def test_an_adopted_generator_goes_on_where_it_was() -> None:
    attempt = Attempt(1, item(0, credit=1), yields=-1)
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


def test_as_many_run_as_there_are_slots_in_any_order() -> None:
    inputs = Inputs(3)
    inputs.add(item(n) for n in range(6))
    assert take_all(inputs, 1.0) == [1, 2, 3, 4]  # one in advance
    assert [n for n, _ in running(inputs)] == [1, 2, 3]
    assert [a.number for a in inputs.unbegun()] == [4, 5, 6]
    assert inputs.finish(2, 3.0)[1] == 2.0
    assert running(inputs) == [(1, 1.0), (3, 1.0), (4, 3.0)]
    with pytest.raises(OutOfTurnError):
        inputs.finish(2, 3.0)
    take_all(inputs, 3.0)
    with pytest.raises(OutOfTurnError):
        inputs.finish(5, 3.0)
    inputs.finish(4, 3.5)
    assert inputs.finish(1, 4.0)[1] == 3.0


def test_what_is_in_advance_grows_with_the_slots() -> None:
    inputs = Inputs(10)
    inputs.add(item(n) for n in range(100))
    take_all(inputs, 0.0)
    inputs.finish(1, 0.001)
    assert inputs.window == 10 + 50  # 10 at once, 1 ms each, in 5 ms


def test_a_dropped_one_may_be_answered_before_its_turn() -> None:
    inputs = Inputs(1)
    inputs.add(item(n) for n in range(3))
    take_all(inputs, 0.0)
    second = inputs.get(2)
    assert second is not None
    assert inputs.drop(second)
    inputs.finish(2, 0.5)
    take_all(inputs, 0.5)
    inputs.finish(1, 1.0)
    assert running(inputs) == [(3, 1.0)]


def test_where_batches_gather_the_runner_says_what_begins() -> None:
    inputs = Inputs(4, tells=True)
    inputs.add(item(n) for n in range(4))
    take_all(inputs, 0.0)
    assert running(inputs) == []
    assert len(inputs.unbegun()) == 4
    with pytest.raises(OutOfTurnError):
        inputs.finish(1, 1.0)
    inputs.begin(1, 1.0)
    inputs.begin(3, 1.0)
    assert running(inputs) == [(1, 1.0), (3, 1.0)]
    assert inputs.finish(3, 1.5)[1] == 0.5
    assert [a.number for a in inputs.unbegun()] == [2, 4]


@pytest.mark.parametrize(("tells", "number"), [(True, 9), (False, 1)])
def test_a_runner_that_may_not_tell_or_names_nothing(*, tells: bool, number: int) -> None:
    inputs = Inputs(2, tells=tells)
    inputs.add([item(0)])
    take_all(inputs, 0.0)
    with pytest.raises(OutOfTurnError):
        inputs.begin(number, 1.0)


def test_adopted_ones_run_as_far_as_they_can() -> None:
    inputs = Inputs(2, tells=True)
    for number in (3, 4, 5):
        inputs.adopt(number, item(number), 1.0)
    assert [n for n, _ in running(inputs)] == [3, 4]
    assert [a.number for a in inputs.unbegun()] == [5]


@pytest.mark.parametrize(
    ("mean", "ahead", "rest"),
    [(0.0001, 7, 0.0), (0.0001, 8, 0.0002), (0.0001, 256, 0.002), (0.0, 50, 0.0), (10.0, 1, 0.0)],
)
def test_a_runner_with_much_in_advance_is_left_alone_for_a_part_of_it(
    mean: float, ahead: int, rest: float
) -> None:
    inputs = queue(1000)
    assert inputs.rest == 0.0
    inputs.take(0.0)
    inputs.finish(1, mean)
    while len(inputs.sent) < 1 + ahead and inputs.take(mean) is not None:
        """As many as the window lets through."""
    if len(inputs.sent) == 1 + ahead:
        assert inputs.rest == pytest.approx(rest)
    assert inputs.rest <= 0.002
