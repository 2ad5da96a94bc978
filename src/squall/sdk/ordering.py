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
        self._early: dict[int, tuple[T, int]] = {}

    def add(self, index: int, item: T, count: int = 1) -> Iterator[tuple[int, T]]:
        """What may be given out now that this item is there, which stands for `count` of them."""
        if not self._ordered:
            yield index, item
            return
        self._early[index] = item, count
        while self._next in self._early:
            index = self._next
            item, count = self._early.pop(index)
            self._next += count
            yield index, item
