"""The live uplink queue: an alert goes at once, visuals go in chunks between alerts.

Slotted planning makes every alert wait for the next interval. Here nothing waits while the link is
free: the caller asks for the next chunk, sends it, and says how long that took. Pure: the caller
brings the clock.

    queue = LiveQueue(Bandwidth(initial=200e3))
    queue.add(event)                            # as events come
    while chunk := queue.next_chunk(now):       # send chunk.size bytes from chunk.offset on
        queue.sent(chunk, seconds)

Over a path with a buffer and a round trip, alerts and visuals have a lane each, and `Path` says
what may be written:

    queue = LiveQueue(path)
    while alert := queue.next_alert():          # written at once
        queue.sent(alert)
    chunk = queue.next_visual(now, path.room(monotonic))

Codes go in the visuals' lane, where `planning.codes` says.
"""

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dat_runtime.planning import ontime
from dat_runtime.planning.ontime import Jobs
from dat_runtime.planning.path import Path
from dat_runtime.planning.pending import (
    VISUAL_DEADLINE,
    Kind,
    Limits,
    PendingEvent,
    require,
    require_valid,
    score,
    smaller_visual,
)
from dat_runtime.planning.row import Row
from dat_runtime.planning.waiting_codes import WaitingCode, WaitingCodes

CHUNK = 4_000
"""Most bytes of a visual that go out before alerts are looked at again."""

CHUNK_SECONDS = 0.005
"""Most time that a chunk should take, so that on a slow link an alert waits no longer either."""

PACKET = 1_400
"""Bytes below which a chunk is not cut for `CHUNK_SECONDS`: about what one packet carries."""

PLANNED = 64
"""Visuals among which a plan chooses, the densest of those that can be in time."""

LOOKED_AT = 128
"""Visuals at most that are looked at for them, so that thousands waiting cost no more."""

ROUNDING = 1e-3
"""Seconds by which a visual may be late at first sight: its due bytes decide."""

LEAST_RATE = 1.0
"""Bytes per second below which an estimate never falls."""


class Bandwidth:
    """What an uplink without buffer and round trip carries, from what was really sent.

    Bytes over seconds, old ones forgotten; `memory` is the time constant in seconds of sending.
    """

    delay = 0.0
    """Seconds from the end of sending to arrival."""

    def __init__(self, initial: float, memory: float = 1.0):
        require(math.isfinite(initial) and initial > 0, "initial", initial)
        require(math.isfinite(memory) and memory > 0, "memory", memory)
        self._memory = memory
        self._bytes, self._seconds = initial * memory, memory

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return max(LEAST_RATE, self._bytes / self._seconds)

    @property
    def estimate(self) -> float:
        """The rate."""
        return self.rate

    def sent(self, size: int, seconds: float) -> None:
        """Learn that sending `size` bytes took `seconds`; a time that is none teaches nothing."""
        if not (math.isfinite(seconds) and seconds > 0 and size >= 0):
            return
        # Old bytes and old seconds fade alike, so that their ratio stays a rate.
        kept = math.exp(-seconds / self._memory)
        self._bytes = kept * self._bytes + size
        self._seconds = kept * self._seconds + seconds


@dataclass(frozen=True)
class Chunk:
    """Bytes `offset` to `offset + size` of one unit; `last` ends the unit (or its first layer)."""

    event_id: str
    kind: Kind
    offset: int
    size: int
    last: bool


@dataclass(eq=False, slots=True)
class _Alert:
    """An alert that waits; `gone` when it was sent or removed, until the heap lets go of it."""

    event: PendingEvent
    gone: bool = False


@dataclass(eq=False, slots=True)
class _Visual:
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


class LiveQueue:
    """What waits for one uplink, and the next chunk to send.

    A code goes before late visuals and before those of its priority or less.

    `first_layer` is the share of a visual's bytes that makes it viewable (progressive images): all
    first layers go before any refinement; 1.0 sends visuals whole. With `fair`, a camera's n-th
    visual in a row counts a 1/n part of its priority, so that one camera cannot crowd out the rest.

    With 20,000 events waiting, `add` and the next chunk take less than a millisecond
    (benchmarks/live_queue.py).
    """

    def __init__(
        self,
        bandwidth: Bandwidth | Path,
        visual_deadline: float = VISUAL_DEADLINE,
        *,
        chunk: int = CHUNK,
        first_layer: float = 1.0,
        fair: bool = False,
    ):
        require(chunk >= 1, "chunk", chunk)
        require(0 < first_layer <= 1, "first_layer", first_layer)
        self.bandwidth = bandwidth
        self._deadline = visual_deadline
        self._chunk = chunk
        self._first_layer = first_layer
        self._fair = fair
        self._number = 0
        self._alerts: list[tuple[float, int, _Alert]] = []  # a heap
        self._alerts_of: dict[str, list[_Alert]] = {}
        self._alerts_waiting = 0
        self._visuals: dict[str, _Visual] = {}
        self._refining: dict[str, _Visual] = {}
        self._rows: dict[str, Row[_Visual]] = {}  # by camera where they share fairly, else one
        self._by_capture: Row[_Visual] = Row()
        self._codes = WaitingCodes()
        self._next: _Visual | None = None  # None: to be planned
        self._next_is_late = False
        self._in_a_row: dict[str, int] = {}

    def __len__(self) -> int:
        return self.alerts_waiting + self.codes_waiting + self.visuals_waiting

    @property
    def alerts_waiting(self) -> int:
        return self._alerts_waiting

    @property
    def codes_waiting(self) -> int:
        return len(self._codes)

    @property
    def visuals_waiting(self) -> int:
        return len(self._visuals) + len(self._refining)

    def add(
        self, event: PendingEvent, camera: str = "", offset: int = 0, *, code_offset: int = 0
    ) -> None:
        """Queue an event: its alert unless already sent, its code, and its smaller visual, if any.

        An id may come again: each of its alerts is sent, and its newer code or visual replaces the
        older one. What was sent and did not arrive is added again, a visual from `offset` on and a
        code from `code_offset` on: so many of its bytes have arrived.

        Raises:
            ValueError: a negative or non-finite number, by the name of its field.
        """
        require_valid([event])
        require(offset >= 0, "offset", offset, event.id)
        require(code_offset >= 0, "code_offset", code_offset, event.id)
        self._number += 1
        if not event.json_sent:
            alert = _Alert(event)
            place = -score(event.priority, event.json_bytes)
            heapq.heappush(self._alerts, (place, self._number, alert))
            self._alerts_of.setdefault(event.id, []).append(alert)
            self._alerts_waiting += 1
        if event.code_bytes is not None:
            self._codes.add(event, event.code_bytes, self._number, code_offset)
        unit = smaller_visual(event)
        if unit is not None:
            self._drop_visual(event.id)
            kind, size = unit
            layer = min(size, math.ceil(size * self._first_layer))
            visual = _Visual(event, kind, size, camera, self._number, layer, min(offset, size))
            self._queue_visual(visual)

    def next_chunk(self, now: float) -> Chunk | None:
        """The next bytes to send; None when nothing waits. The same until it is reported sent."""
        return self.next_alert() or self.next_visual(now)

    def next_alert(self) -> Chunk | None:
        """The alert to send next, whole; None when none waits."""
        while self._alerts and self._alerts[0][2].gone:
            heapq.heappop(self._alerts)
        if not self._alerts:
            return None
        event = self._alerts[0][2].event
        return Chunk(event.id, "json", 0, event.json_bytes, last=True)

    def next_visual(self, now: float, most: int | None = None) -> Chunk | None:
        """The next bytes of a code or a visual, at most `most` (`Path.room`); None when none waits.

        `now` is on the clock of `captured_at`, which may step.
        """
        if self._visuals and self._next is None:
            self._next = self._plan(now)
        visual = self._next or next(iter(self._refining.values()), None)
        code = self._code_before(visual)
        if code is not None:
            size = self._brief(code.left, most)
            return Chunk(code.event.id, "code", code.sent, size, size == code.left)
        if visual is None:
            return None
        size = self._brief(visual.goal - visual.sent, most)
        last = visual.sent + size == visual.goal
        return Chunk(visual.event.id, visual.kind, visual.sent, size, last)

    def _code_before(self, visual: _Visual | None) -> WaitingCode | None:
        """The code that goes before this visual; any, where it is late or can be viewed already."""
        if visual is None or visual is not self._next or self._next_is_late:
            return self._codes.first(0.0)
        return self._codes.first(visual.event.priority)

    def _brief(self, left: int, most: int | None) -> int:
        """How many of the bytes that are left go at once."""
        brief = max(PACKET, int(self.bandwidth.rate * CHUNK_SECONDS))
        size = min(self._chunk, brief, left)
        return size if most is None else min(size, max(1, most))

    def sent(self, chunk: Chunk, seconds: float | None = None) -> None:
        """Learn that the chunk went out: in `seconds`, where they teach the bandwidth.

        A chunk of what was removed or replaced meanwhile is passed over.
        """
        if seconds is not None and isinstance(self.bandwidth, Bandwidth):
            self.bandwidth.sent(chunk.size, seconds)
        if chunk.kind == "json":
            self._drop_alert(chunk.event_id, chunk.size)
            return
        if chunk.kind == "code":
            if self._codes.sent(chunk.event_id, chunk.offset, chunk.size):
                self._next = None  # it may be late by now
            return
        visual = self._visuals.get(chunk.event_id) or self._refining.get(chunk.event_id)
        if visual is None or (visual.kind, visual.sent) != (chunk.kind, chunk.offset):
            return
        goal = visual.goal
        is_refined = chunk.event_id in self._refining
        if not is_refined:
            self._leave_rows(visual)
        visual.sent = min(goal, visual.sent + chunk.size)
        if visual.sent < goal:
            if not is_refined:
                self._join_rows(visual)
            return
        del (self._refining if is_refined else self._visuals)[chunk.event_id]
        if not is_refined:
            self._next = None
            self._count(visual.camera)
            if visual.sent < visual.size:
                self._refining[chunk.event_id] = visual

    def remove(self, event_id: str, kind: Kind | None = None) -> None:
        """Take out what waits of an event: its alerts ("json"), its code, its visual, or all."""
        if kind is None or kind == "json":
            for alert in self._alerts_of.pop(event_id, []):
                alert.gone = True
                self._alerts_waiting -= 1
        if kind is None or kind == "code":
            self._codes.remove(event_id)
        if kind is None or kind in ("roi", "box"):
            self._drop_visual(event_id, kind)

    def _drop_alert(self, event_id: str, size: int) -> None:
        """Drop the oldest alert of this id and size; others of the id stay."""
        alerts = self._alerts_of.get(event_id, [])
        for alert in alerts:
            if alert.event.json_bytes == size:
                alert.gone = True
                alerts.remove(alert)
                self._alerts_waiting -= 1
                break
        if not alerts:
            self._alerts_of.pop(event_id, None)

    def _queue_visual(self, visual: _Visual) -> None:
        if visual.size and visual.sent >= visual.size:
            return
        if visual.layer and visual.sent >= visual.layer:
            self._refining[visual.event.id] = visual
            return
        self._visuals[visual.event.id] = visual
        self._join_rows(visual)
        self._next = None

    def _drop_visual(self, event_id: str, kind: Kind | None = None) -> None:
        visual = self._visuals.get(event_id) or self._refining.get(event_id)
        if visual is None or kind not in (None, visual.kind):
            return
        if self._refining.pop(event_id, None) is None:
            self._leave_rows(visual)
            del self._visuals[event_id]
            self._next = None

    def _join_rows(self, visual: _Visual) -> None:
        self._row_of(visual).add(*visual.place, visual)
        self._by_capture.add(visual.event.captured_at, visual.number, visual)

    def _leave_rows(self, visual: _Visual) -> None:
        self._row_of(visual).remove(*visual.place)
        self._by_capture.remove(visual.event.captured_at, visual.number)

    def _row_of(self, visual: _Visual) -> Row[_Visual]:
        return self._rows.setdefault(visual.camera if self._fair else "", Row())

    def _count(self, camera: str) -> None:
        """Count one more visual of the camera in a row; one with nothing pending starts anew."""
        self._in_a_row[camera] = self._in_a_row.get(camera, 0) + 1
        self._rows = {name: row for name, row in self._rows.items() if row}
        self._in_a_row = {name: n for name, n in self._in_a_row.items() if name in self._rows}

    def _plan(self, now: float) -> _Visual:
        """The visual to send next, by what is left of those that wait.

        As in `planners.live`: of those that can all be in time the first, else the densest. The
        plan is made again for every visual, so that its later places are never used, and of
        thousands that wait nearly all are too late: only `PLANNED` of the others are weighed.
        """
        rate = self.bandwidth.rate
        limits = Limits(rate, math.inf, self._deadline, now + self.bandwidth.delay)
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

    def _candidates(self, now: float, rate: float) -> list[tuple[float, _Visual]]:
        """Visuals that can be in time, with their weights, in the order of `add`."""
        oldest = now - self._deadline - ROUNDING

        def in_time(jobs: Iterable[tuple[float, _Visual]]) -> list[tuple[float, _Visual]]:
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

    def _densest(self) -> Iterator[tuple[float, _Visual]]:
        """Weights and visuals by descending weight per missing byte."""
        if not self._fair:
            return ((visual.event.priority, visual) for visual in self._rows[""])
        rows = [self._shared(camera) for camera in self._rows]
        return heapq.merge(*rows, key=lambda job: (-score(job[0], job[1].left), job[1].number))

    def _shared(self, camera: str) -> Iterator[tuple[float, _Visual]]:
        """A camera's visuals, each weighing its priority over its place in the camera's row."""
        first = self._in_a_row.get(camera, 0) + 1
        for place, visual in enumerate(self._rows[camera], first):
            yield visual.event.priority / place, visual

    def _weight(self, visual: _Visual) -> float:
        if not self._fair:
            return visual.event.priority
        before = self._rows[visual.camera].before(*visual.place)
        return visual.event.priority / (self._in_a_row.get(visual.camera, 0) + before + 1)
