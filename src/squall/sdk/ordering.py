"""Results in the order of their inputs, or as they come. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


class Ordering(Generic[T]):
    def __init__(self, *, ordered: bool, first: int = 0) -> None:
        self._ordered = ordered
        self._next = first
        self._early: dict[int, T] = {}

    def add(self, index: int, item: T) -> Iterator[tuple[int, T]]:
        """What may be given out now that this item is there."""
        if not self._ordered:
            yield index, item
            return
        self._early[index] = item
        while self._next in self._early:
            yield self._next, self._early.pop(self._next)
            self._next += 1
