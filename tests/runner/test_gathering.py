"""Which inputs begin when: single ones at once, batches when they are full or have waited."""

from __future__ import annotations

from squall.runner import protocol
from squall.runner.gathering import Line
from squall.runner.held import Held
from squall.runner.protocol import Frame


def held(number: int, method: str = "") -> Held:
    return Held(Frame(protocol.INPUT, number, {"m": method} if method else {}, b""), b"")


def line(**batching: tuple[int, float]) -> Line:
    return Line({("" if name == "f" else name): limits for name, limits in batching.items()})


def take(line: Line, now: float) -> list[int]:
    return [h.number for h in line.take(now)]


def test_single_ones_begin_at_once_and_in_order() -> None:
    queue = line()
    for number in (1, 2):
        queue.add(held(number), 5.0)
    assert [take(queue, 5.0), take(queue, 5.0), take(queue, 5.0)] == [[1], [2], []]
    assert queue.due() is None


def test_a_full_batch_begins_at_once() -> None:
    queue = line(f=(3, 1.0))
    for number in range(1, 6):
        queue.add(held(number), 5.0)
    assert take(queue, 5.0) == [1, 2, 3]
    assert take(queue, 5.0) == []
    assert queue.due() == 6.0


def test_the_wait_counts_from_the_first() -> None:
    queue = line(f=(3, 1.0))
    queue.add(held(1), 5.0)
    queue.add(held(2), 5.9)
    assert take(queue, 5.99) == []
    assert queue.due() == 6.0
    assert take(queue, 6.0) == [1, 2]


def test_who_has_waited_longest_is_first_among_methods() -> None:
    queue = line(a=(2, 1.0), b=(9, 0.5))
    queue.add(held(1, "a"), 5.0)
    queue.add(held(2, "b"), 5.1)
    queue.add(held(3, "c"), 5.2)
    queue.add(held(4, "a"), 5.3)
    assert [take(queue, 5.7) for _ in range(4)] == [[1, 4], [2], [3], []]


def test_one_that_is_taken_out() -> None:
    queue = line(f=(2, 1.0))
    queue.add(held(1), 5.0)
    queue.add(held(2), 5.5)
    assert queue.remove(1)
    assert not queue.remove(1)
    assert queue.due() == 6.5
