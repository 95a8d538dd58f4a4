"""The revisions of a node's events, and the priority below which no later frame takes one."""

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

REMEMBERED = 10_000
"""Events whose latest revision is known; an older one gets no late answer."""


@dataclass
class _Latest:
    """What is known of an event.

    Attributes:
        number: of its latest revision.
        taken: when the frame of that one was taken.
        told: the frame told latest, and the priority that it was told with.
        before: the highest priority of the frames before that one.
    """

    number: int = -1
    taken: float = -math.inf
    told: tuple[float, float] = (-math.inf, 0.0)
    before: float = 0.0


class Revisions:
    """The revisions of events; safe to use from every thread, whichever comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: OrderedDict[str, _Latest] = OrderedDict()

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
            latest = self._latest.setdefault(id, _Latest())
            if taken < latest.taken or (taken == latest.taken and not late):
                return None
            number = latest.number + 1
            latest.number, latest.taken = number + leaves_one, taken
            self._latest.move_to_end(id)
            if len(self._latest) > REMEMBERED:
                self._latest.popitem(last=False)
            return number

    def least_priority(self, id: str, taken: float) -> float:
        """The highest priority with which earlier frames of the event were told; 0 at first."""
        with self._lock:
            latest = self._latest.get(id, _Latest())
            told_taken, priority = latest.told
            return max(latest.before, priority if taken > told_taken else 0.0)

    def told(self, id: str, taken: float, priority: float) -> None:
        """Note with which priority a frame was told: a later answer about it may lower that."""
        with self._lock:
            latest = self._latest.get(id)
            if latest is None or taken < latest.told[0]:
                return
            if taken > latest.told[0]:
                latest.before = max(latest.before, latest.told[1])
            latest.told = (taken, priority)
