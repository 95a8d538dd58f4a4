"""A row in which things wait in order, so that the first of thousands is found at once."""

import bisect
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Row(Generic[T]):
    """Things in ascending order of a key of two numbers, the second one theirs alone."""

    def __init__(self) -> None:
        self._things: list[tuple[float, int, T]] = []

    def __len__(self) -> int:
        return len(self._things)

    def __iter__(self) -> Iterator[T]:
        return (thing for _, _, thing in self._things)

    def before(self, first: float, second: int = -1) -> int:
        """How many have a smaller key."""
        return bisect.bisect_left(self._things, (first, second))

    def last(self, count: int) -> list[T]:
        return [thing for _, _, thing in self._things[len(self) - count :]]

    def add(self, first: float, second: int, thing: T) -> None:
        bisect.insort(self._things, (first, second, thing))

    def remove(self, first: float, second: int) -> None:
        del self._things[self.before(first, second)]
