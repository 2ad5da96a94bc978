"""A set of numbers that fills up from below, mostly in order: small however many they are."""

from __future__ import annotations


class Indexes:
    def __init__(self, low: int = 0) -> None:
        #: All numbers below it are in the set.
        self.low = low
        self._above: set[int] = set()

    def add(self, number: int) -> bool:
        """False if it was there already."""
        if number in self:
            return False
        self._above.add(number)
        while self.low in self._above:
            self._above.remove(self.low)
            self.low += 1
        return True

    def add_all(self, first: int, count: int) -> bool:
        """So many numbers in a row; False, and none is added, if one of them was there already."""
        numbers = range(first, first + count)
        if first < self.low or not self._above.isdisjoint(numbers):
            return False
        if first == self.low and not self._above:
            self.low += count
        else:
            for number in numbers:
                self.add(number)
        return True

    def __contains__(self, number: int) -> bool:
        return number < self.low or number in self._above

    def discard(self, number: int) -> None:
        """It is to come once more."""
        if number < self.low:
            self._above.update(range(number + 1, self.low))
            self.low = number
        self._above.discard(number)
