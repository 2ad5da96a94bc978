"""How many inputs travel together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squall.sdk.chunking import ALONE, EACH, KNOWN, LITTLE_S, MOST, RESULT_BYTES, SLOW_S, WORK_S, Pace, total

ROOM = 1000


def learned(seconds: float, spread: int = 1, *, size: int = 10, inputs: int | None = None) -> Pace:
    pace = Pace(ROOM, inputs)
    for _ in range(KNOWN):
        pace.ended(1, seconds, size, spread)
    return pace


@given(
    seconds=st.floats(1e-6, 10),
    spread=st.integers(1, 100),
    size=st.integers(0, 1 << 20),
    inputs=st.none() | st.integers(0, 10_000),
    sent=st.integers(0, 20_000),
)
def test_bounds(seconds: float, spread: int, size: int, inputs: int | None, sent: int) -> None:
    """A chunk is short, its results are few bytes, and containers have several each."""
    count = learned(seconds, spread, size=size, inputs=inputs).size(sent)
    assert 1 <= count <= MOST
    if count == 1:
        return
    assert count * seconds <= WORK_S * 1.001
    assert count * size <= RESULT_BYTES
    left = ROOM if inputs is None else min(ROOM, inputs - sent)
    assert count * EACH * spread <= max(left, 0) or count * seconds <= LITTLE_S * 1.001


@given(st.floats(1e-6, 10), st.integers(1, 100))
def test_quicker_inputs_travel_in_no_smaller_chunks(seconds: float, spread: int) -> None:
    assert learned(seconds / 2, spread).size(0) >= learned(seconds, spread).size(0)


def test_nothing_travels_together_before_it_is_known_to_be_quick() -> None:
    pace = Pace(ROOM)
    for _ in range(KNOWN - 1):
        assert pace.size(0) == 1
        pace.ended(1, 1e-4, 10, 1)
    assert pace.size(0) == 1
    pace.ended(1, 1e-4, 10, 1)
    assert pace.size(0) > 100


def test_nothing_travels_together_where_the_server_does_not_say_so() -> None:
    assert learned(1e-4, 0).size(0) == 1


def test_what_was_not_run_says_nothing() -> None:
    pace = Pace(ROOM)
    for _ in range(KNOWN):
        pace.ended(1, 0.0, 10, 1)
    assert pace.size(0) == 1


@pytest.mark.parametrize(("seconds", "count"), [(0.01, 6), (0.02, 3), (0.04, 1), (1.0, 1)])
def test_little_work_at_a_time(seconds: float, count: int) -> None:
    assert learned(seconds).size(0) == count


def test_the_last_ones_travel_alone() -> None:
    pace = learned(0.006, 2, inputs=2000)
    assert pace.size(100) == 10
    assert pace.size(1960) == 5
    assert pace.size(1992) == 1
    assert pace.size(2100) == 1, "whoever said that there are 2000"


def test_after_a_slow_one_some_travel_alone_and_more_each_time() -> None:
    pace = learned(1e-4)
    for times in (1, 2, 4):
        pace.ended(100, SLOW_S + 0.1, 10, 1)
        for _ in range(8):
            pace.ended(1, 1e-4, 10, 1)
        sizes = [pace.size(0) for _ in range(times * ALONE + 1)]
        assert sizes[:-1] == [1] * (times * ALONE)
        assert sizes[-1] > 1


def test_a_chunk_that_took_longer_makes_the_next_ones_smaller() -> None:
    pace = learned(1e-4)
    pace.ended(250, 0.19, 10, 1)
    assert pace.size(0) < 250 * 0.75


def test_how_many_there_will_be() -> None:
    assert total([[1, 2, 3], range(2)]) == 2
    assert total([range(3), "ab"]) == 2
    assert total([iter([1])]) is None


def test_an_iterable_that_may_wait_is_not_counted() -> None:
    """It would wait in the thread that takes the results: perhaps for one of them."""

    class Waits(list[int]):
        pass

    assert total([iter([1, 2]), "abc"]) is None
    assert total([Waits([1])]) is None
    assert total([]) is None
