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
import math
from dataclasses import dataclass

from dat_runtime.planning.path import Path
from dat_runtime.planning.pending import (
    VISUAL_DEADLINE,
    Kind,
    PendingEvent,
    require,
    require_valid,
    score,
    smaller_visual,
)
from dat_runtime.planning.waiting_codes import WaitingCode, WaitingCodes
from dat_runtime.planning.waiting_visuals import WaitingVisual, WaitingVisuals

CHUNK = 4_000
"""Most bytes of a visual that go out before alerts are looked at again."""

CHUNK_SECONDS = 0.005
"""Most time that a chunk should take, so that on a slow link an alert waits no longer either."""

PACKET = 1_400
"""Bytes below which a chunk is not cut for `CHUNK_SECONDS`: about what one packet carries."""

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
        self._chunk = chunk
        self._number = 0
        self._alerts: list[tuple[float, int, _Alert]] = []  # a heap
        self._alerts_of: dict[str, list[_Alert]] = {}
        self._alerts_waiting = 0
        self._codes = WaitingCodes()
        self._visuals = WaitingVisuals(visual_deadline, first_layer, fair)

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
        return len(self._visuals)

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
            self._visuals.add(event, *unit, camera, self._number, offset)

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
        visual = self._visuals.next(now, self.bandwidth.rate, self.bandwidth.delay)
        code = self._code_before(visual)
        if code is not None:
            size = self._brief(code.left, most)
            return Chunk(code.event.id, "code", code.sent, size, size == code.left)
        if visual is None:
            return None
        size = self._brief(visual.goal - visual.sent, most)
        last = visual.sent + size == visual.goal
        return Chunk(visual.event.id, visual.kind, visual.sent, size, last)

    def _code_before(self, visual: WaitingVisual | None) -> WaitingCode | None:
        """The code that goes before this visual; any, where it is late or can be viewed already."""
        if visual is None or not self._visuals.is_in_time(visual):
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
                self._visuals.plan_again()  # the next one may be late by now
            return
        self._visuals.sent(chunk.event_id, chunk.kind, chunk.offset, chunk.size)

    def remove(self, event_id: str, kind: Kind | None = None) -> None:
        """Take out what waits of an event: its alerts ("json"), its code, its visual, or all."""
        if kind is None or kind == "json":
            for alert in self._alerts_of.pop(event_id, []):
                alert.gone = True
                self._alerts_waiting -= 1
        if kind is None or kind == "code":
            self._codes.remove(event_id)
        if kind is None or kind in ("roi", "box"):
            self._visuals.remove(event_id, kind)

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
