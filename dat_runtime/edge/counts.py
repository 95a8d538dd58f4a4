"""What a node counts: one place, safe to use from every thread, read by metrics and status."""

import threading
from collections import Counter
from collections.abc import Mapping

Labels = tuple[tuple[str, str], ...]
"""Names and values, sorted."""

Series = tuple[str, Labels]
"""A counter's name and its labels."""


class Counts:
    """Numbers that only rise, by name and labels: `counts.add("visuals_dropped", reason="late")`.

    Values that rise and fall are read where they are known, not kept here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Series] = Counter()

    def add(self, name: str, amount: int = 1, /, **labels: str) -> None:
        with self._lock:
            self._counts[name, tuple(sorted(labels.items()))] += amount

    def of(self, name: str, /, **labels: str) -> int:
        with self._lock:
            return self._counts[name, tuple(sorted(labels.items()))]

    def snapshot(self) -> Mapping[Series, int]:
        """A copy of all."""
        with self._lock:
            return dict(self._counts)
