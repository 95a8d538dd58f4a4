"""The revisions of a node's events."""

import math
import threading
from collections import OrderedDict

REMEMBERED = 10_000
"""Events whose latest revision is known; an older one gets no late answer."""


class Revisions:
    """The revisions of events; safe to use from every thread, whichever comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def next(
        self, id: str, taken: float, late: bool = False, *, leaves_one: bool = False
    ) -> int | None:
        """The number of a further revision.

        Args:
            taken: when its frame was taken.
            late: whether it is the late answer about a frame that the gate told.
            leaves_one: the number after it stays free, for whoever finishes its answer.

        Returns:
            `None` when it was overtaken: a later frame was told, or this one by its late answer.
        """
        with self._lock:
            number, newest = self._latest.get(id, (-1, -math.inf))
            if taken < newest or (taken == newest and not late):
                return None
            self._latest[id] = (number + 1 + leaves_one, taken)
            self._latest.move_to_end(id)
            if len(self._latest) > REMEMBERED:
                self._latest.popitem(last=False)
            return number + 1
