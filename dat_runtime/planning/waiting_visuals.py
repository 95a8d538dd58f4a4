"""The visuals that wait in a live queue, and which of them goes next.

All first layers go before any refinement; among them, a plan says which.
"""

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dat_runtime.planning import ontime
from dat_runtime.planning.ontime import Jobs
from dat_runtime.planning.pending import Kind, Limits, PendingEvent, score
from dat_runtime.planning.row import Row

PLANNED = 64
"""Visuals among which a plan chooses, the densest of those that can be in time."""

LOOKED_AT = 128
"""Visuals at most that are looked at for them, so that thousands waiting cost no more."""

ROUNDING = 1e-3
"""Seconds by which a visual may be late at first sight: its due bytes decide."""


@dataclass(eq=False, slots=True)
class WaitingVisual:
    """A visual of `size` bytes, of which `sent` are gone."""

    event: PendingEvent
    kind: Kind
    size: int
    camera: str
    number: int
    """Its place in the order of `add`."""
    layer: int
    """Bytes that make it viewable; the rest refines it."""
    sent: int = 0

    @property
    def goal(self) -> int:
        return self.layer if self.sent < self.layer else self.size

    @property
    def left(self) -> int:
        """Bytes that are missing until it can be viewed."""
        return self.layer - self.sent

    @property
    def place(self) -> tuple[float, int]:
        """Its key in a row: by what its missing bytes gain, then by the order of `add`."""
        return -score(self.event.priority, self.left), self.number


class WaitingVisuals:
    """One visual an event at most.

    Args:
        deadline: seconds from a capture in which its visual is worth most.
        first_layer: share of a visual's bytes that makes it viewable.
        fair: a camera's n-th visual in a row counts a 1/n part of its priority.
    """

    def __init__(self, deadline: float, first_layer: float, fair: bool) -> None:
        self._deadline = deadline
        self._first_layer = first_layer
        self._fair = fair
        self._visuals: dict[str, WaitingVisual] = {}
        self._refining: dict[str, WaitingVisual] = {}
        self._rows: dict[
            str, Row[WaitingVisual]
        ] = {}  # by camera where they share fairly, else one
        self._by_capture: Row[WaitingVisual] = Row()
        self._next: WaitingVisual | None = None  # None: to be planned
        self._next_is_late = False
        self._in_a_row: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._visuals) + len(self._refining)

    def add(
        self, event: PendingEvent, kind: Kind, size: int, camera: str, number: int, offset: int
    ) -> None:
        """Queue the visual of an event, from `offset` on; it replaces an older one."""
        self.remove(event.id)
        layer = min(size, math.ceil(size * self._first_layer))
        visual = WaitingVisual(event, kind, size, camera, number, layer, min(offset, size))
        if size and visual.sent >= size:
            return
        if layer and visual.sent >= layer:
            self._refining[event.id] = visual
            return
        self._visuals[event.id] = visual
        self._join_rows(visual)
        self._next = None

    def next(self, now: float, rate: float, delay: float) -> WaitingVisual | None:
        """The visual to send next, the same until it is viewable or something comes in between.

        `rate` in bytes per second, `delay` in seconds from the end of sending to arrival.
        """
        if self._visuals and self._next is None:
            self._next = self._plan(now, rate, delay)
        return self._next or next(iter(self._refining.values()), None)

    def is_in_time(self, visual: WaitingVisual) -> bool:
        """Whether the visual is the planned one, and was not late when it was planned."""
        return visual is self._next and not self._next_is_late

    def plan_again(self) -> None:
        """Let the next one be chosen anew: time has gone."""
        self._next = None

    def sent(self, event_id: str, kind: Kind, offset: int, size: int) -> None:
        """So many bytes from `offset` on are gone.

        Those of a visual that was removed or replaced meanwhile are passed over.
        """
        visual = self._visuals.get(event_id) or self._refining.get(event_id)
        if visual is None or (visual.kind, visual.sent) != (kind, offset):
            return
        goal = visual.goal
        is_refined = event_id in self._refining
        if not is_refined:
            self._leave_rows(visual)
        visual.sent = min(goal, visual.sent + size)
        if visual.sent < goal:
            if not is_refined:
                self._join_rows(visual)
            return
        del (self._refining if is_refined else self._visuals)[event_id]
        if not is_refined:
            self._next = None
            self._count(visual.camera)
            if visual.sent < visual.size:
                self._refining[event_id] = visual

    def remove(self, event_id: str, kind: Kind | None = None) -> None:
        """Take out the visual of an event, if one waits that is of this kind."""
        visual = self._visuals.get(event_id) or self._refining.get(event_id)
        if visual is None or kind not in (None, visual.kind):
            return
        if self._refining.pop(event_id, None) is None:
            self._leave_rows(visual)
            del self._visuals[event_id]
            self._next = None

    def _join_rows(self, visual: WaitingVisual) -> None:
        self._row_of(visual).add(*visual.place, visual)
        self._by_capture.add(visual.event.captured_at, visual.number, visual)

    def _leave_rows(self, visual: WaitingVisual) -> None:
        self._row_of(visual).remove(*visual.place)
        self._by_capture.remove(visual.event.captured_at, visual.number)

    def _row_of(self, visual: WaitingVisual) -> Row[WaitingVisual]:
        return self._rows.setdefault(visual.camera if self._fair else "", Row())

    def _count(self, camera: str) -> None:
        """Count one more visual of the camera in a row; one with nothing pending starts anew."""
        self._in_a_row[camera] = self._in_a_row.get(camera, 0) + 1
        self._rows = {name: row for name, row in self._rows.items() if row}
        self._in_a_row = {name: n for name, n in self._in_a_row.items() if name in self._rows}

    def _plan(self, now: float, rate: float, delay: float) -> WaitingVisual:
        """The visual to send next, by what is left of those that wait.

        As in `planners.live`: of those that can all be in time the first, else the densest. The
        plan is made again for every visual, so that its later places are never used, and of
        thousands that wait nearly all are too late: only `PLANNED` of the others are weighed.
        """
        limits = Limits(rate, math.inf, self._deadline, now + delay)
        candidates = self._candidates(now, rate)
        jobs = Jobs(
            weights=[weight for weight, _ in candidates],
            sizes=[visual.left for _, visual in candidates],
            due=[limits.due(limits.age(visual.event)) for _, visual in candidates],
            sent=0,
        )
        chosen = ontime.insertion(jobs)
        self._next_is_late = not chosen
        if not chosen:
            return next(self._densest())[1]
        return candidates[ontime.sending_order(jobs, chosen)[0]][1]

    def _candidates(self, now: float, rate: float) -> list[tuple[float, WaitingVisual]]:
        """Visuals that can be in time, with their weights, in the order of `add`."""
        oldest = now - self._deadline - ROUNDING

        def in_time(
            jobs: Iterable[tuple[float, WaitingVisual]],
        ) -> list[tuple[float, WaitingVisual]]:
            return [job for job in jobs if job[1].event.captured_at - job[1].left / rate >= oldest]

        young = len(self._by_capture) - self._by_capture.before(oldest)
        newest = ((self._weight(v), v) for v in self._by_capture.last(min(young, LOOKED_AT)))
        if young <= LOOKED_AT:
            can_be = in_time(newest)
        else:
            can_be = in_time(itertools.islice(self._densest(), LOOKED_AT)) or in_time(newest)
        if len(can_be) > PLANNED:
            can_be.sort(key=lambda job: score(job[0], job[1].left), reverse=True)
            del can_be[PLANNED:]
        return sorted(can_be, key=lambda job: job[1].number)

    def _densest(self) -> Iterator[tuple[float, WaitingVisual]]:
        """Weights and visuals by descending weight per missing byte."""
        if not self._fair:
            return ((visual.event.priority, visual) for visual in self._rows[""])
        rows = [self._shared(camera) for camera in self._rows]
        return heapq.merge(*rows, key=lambda job: (-score(job[0], job[1].left), job[1].number))

    def _shared(self, camera: str) -> Iterator[tuple[float, WaitingVisual]]:
        """A camera's visuals, each weighing its priority over its place in the camera's row."""
        first = self._in_a_row.get(camera, 0) + 1
        for place, visual in enumerate(self._rows[camera], first):
            yield visual.event.priority / place, visual

    def _weight(self, visual: WaitingVisual) -> float:
        if not self._fair:
            return visual.event.priority
        before = self._rows[visual.camera].before(*visual.place)
        return visual.event.priority / (self._in_a_row.get(visual.camera, 0) + before + 1)
