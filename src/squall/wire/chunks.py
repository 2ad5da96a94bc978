"""Chunks, and how they come apart into their inputs. Pure; nobody here looks into a payload."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from squall.wire.values import InputItem, OutputItem, Payload

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The most inputs of one chunk.
MAX_COUNT = 1_000


def fits(item: InputItem) -> bool:
    """Whether its sizes are those of what it brings."""
    if item.sizes is None:
        return True
    data = item.payload.data
    return (
        1 < len(item.sizes) <= MAX_COUNT
        and min(item.sizes) >= 0
        and sum(item.sizes) == len(data)
        and not item.payload.blob
    )


def apart(item: InputItem) -> list[InputItem]:
    """Its inputs, each on its own."""
    if item.sizes is None:
        return [item]
    pieces = slices(item.payload.data, item.sizes)
    return [
        InputItem(index, Payload(bytes(piece), size=len(piece)), item.method)
        for index, piece in enumerate(pieces, item.index)
    ]


def outputs_apart(output: OutputItem) -> Iterator[OutputItem]:
    """The outcomes of a chunk's inputs, each on its own. Its payload is here."""
    if output.sizes is None:
        for index in range(output.index, output.index + output.count):
            yield OutputItem(index, output.outcome, output.attempt)
        return
    parts = {part.offset: part.outcome for part in output.parts or ()}
    for offset, piece in enumerate(slices(output.outcome.payload.data, output.sizes)):
        outcome = parts.get(offset, output.outcome)
        payload = Payload(bytes(piece), size=len(piece))
        own = type(outcome)(outcome.status, payload, outcome.error)
        yield OutputItem(output.index + offset, own, output.attempt)


def statuses(output: OutputItem) -> Iterator[str]:
    """How each of its inputs ended."""
    parts = {part.offset: part.outcome.status for part in output.parts or ()}
    return (parts.get(offset, output.outcome.status) for offset in range(output.count))


def slices(data: bytes | memoryview, sizes: list[int]) -> Iterator[memoryview]:
    """Pieces of these sizes, one behind the other."""
    view = memoryview(data)
    start = 0
    for end in accumulate(sizes):
        yield view[start:end]
        start = end
