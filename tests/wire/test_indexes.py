"""Numbers that fill up from below, beside Python's own set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from squall.wire.indexes import Indexes

numbers = st.integers(0, 30)
steps = st.one_of(
    st.tuples(st.just("add"), numbers, st.just(1)),
    st.tuples(st.just("discard"), numbers, st.just(1)),
    st.tuples(st.just("add_all"), numbers, st.integers(1, 6)),
)


@given(st.lists(steps))
def test_they_are_a_set(history: list[tuple[str, int, int]]) -> None:
    indexes, model = Indexes(), set[int]()
    for name, first, count in history:
        wanted = set(range(first, first + count))
        if name == "discard":
            indexes.discard(first)
            model -= wanted
        else:
            added = indexes.add(first) if name == "add" else indexes.add_all(first, count)
            assert added is model.isdisjoint(wanted)
            model |= wanted if added else set()
        assert {n for n in range(50) if n in indexes} == model
    # Whatever has filled up is no longer kept one by one, unless something was to come once more.
    if all(name != "discard" for name, _, _ in history):
        assert indexes.low == next(n for n in range(50) if n not in model)
        assert all(n > indexes.low for n in indexes._above)


def test_it_begins_where_it_is_told() -> None:
    indexes = Indexes(3)
    assert 2 in indexes
    assert 3 not in indexes
