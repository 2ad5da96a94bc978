"""Chunks come apart into what they were made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squall.wire import chunks
from squall.wire.values import ErrorInfo, InputItem, Outcome, OutputItem, Part, Payload

pieces = st.lists(st.binary(max_size=20), min_size=2, max_size=30)


def payload(parts: list[bytes]) -> Payload:
    data = b"".join(parts)
    return Payload(data, size=len(data))


@given(pieces, st.integers(0, 1000))
def test_inputs(parts: list[bytes], first: int) -> None:
    item = InputItem(first, payload(parts), "m", sizes=[len(p) for p in parts])
    assert chunks.fits(item)
    assert item.count == len(parts)
    assert chunks.apart(item) == [
        InputItem(first + n, Payload(part, size=len(part)), "m") for n, part in enumerate(parts)
    ]


@given(pieces, st.data())
def test_outputs(parts: list[bytes], data: st.DataObject) -> None:
    bad = sorted(data.draw(st.sets(st.integers(0, len(parts) - 1))))
    errors = [Part(n, Outcome("exception", error=ErrorInfo("E", str(n)))) for n in bad]
    output = OutputItem(
        7, Outcome("ok", payload(parts)), 3, count=len(parts), sizes=[len(p) for p in parts], parts=errors
    )
    apart = list(chunks.outputs_apart(output))
    assert [(o.index, o.attempt, o.outcome.payload.data) for o in apart] == [
        (7 + n, 3, part) for n, part in enumerate(parts)
    ]
    expected = ["exception" if n in bad else "ok" for n in range(len(parts))]
    assert [o.outcome.status for o in apart] == expected
    assert list(chunks.statuses(output)) == expected
    assert [o.outcome.error.message for o in apart if o.outcome.error] == [str(n) for n in bad]


def test_inputs_that_all_ended_so() -> None:
    output = OutputItem(2, Outcome("cancelled"), 1, count=3)
    assert [(o.index, o.outcome.status) for o in chunks.outputs_apart(output)] == [
        (2, "cancelled"),
        (3, "cancelled"),
        (4, "cancelled"),
    ]
    assert list(chunks.statuses(output)) == ["cancelled"] * 3


@pytest.mark.parametrize("sizes", [[], [4], [1, 2], [5, -1], [2, 3], [0] * 1001 + [4]])
def test_what_is_no_chunk(sizes: list[int]) -> None:
    assert not chunks.fits(InputItem(0, Payload(b"abcd"), sizes=sizes))


def test_a_chunk_is_in_no_blob() -> None:
    assert chunks.fits(InputItem(0, Payload(), sizes=[0, 0]))
    assert not chunks.fits(InputItem(0, Payload(blob="ab" * 32), sizes=[0, 0]))
