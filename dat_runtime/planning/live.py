"""The live uplink queue: an alert goes at once, visuals go in chunks between alerts.

Slotted planning makes every alert wait for the next interval. Here nothing waits while the link is
free: the caller asks for the next chunk, sends it, and says how long that took. Pure: the caller
brings the clock.

    queue = LiveQueue(Bandwidth(initial=200e3))
    queue.add(event)                            # as events come
    while chunk := queue.next_chunk(now):       # send chunk.size bytes from chunk.offset on
        queue.sent(chunk, seconds)
"""

import math
from dataclasses import dataclass, replace

from dat_runtime.planning import planners
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

CHUNK = 4_000
"""Most bytes of a visual that go out before alerts are looked at again."""

CHUNK_SECONDS = 0.005
"""Most time that a chunk should take, so that on a slow link an alert waits no longer either."""

PACKET = 1_400
"""Bytes below which a chunk is not cut for `CHUNK_SECONDS`: about what one packet carries."""


class Bandwidth:
    """What the uplink carries, from what was really sent: bytes over seconds, old ones forgotten.

    `memory` is the time constant in seconds of sending.
    """

    def __init__(self, initial: float, memory: float = 1.0):
        require(math.isfinite(initial) and initial > 0, "initial", initial)
        require(math.isfinite(memory) and memory > 0, "memory", memory)
        self._memory = memory
        self._bytes, self._seconds = initial * memory, memory

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self._bytes / self._seconds

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


@dataclass
class _Visual:
    event: PendingEvent
    kind: Kind
    size: int
    camera: str
    sent: int = 0
    layer: int = 0
    """Bytes that make it viewable; the rest refines it."""

    @property
    def goal(self) -> int:
        return self.layer if self.sent < self.layer else self.size


class LiveQueue:
    """What waits for one uplink, and the next chunk to send.

    `first_layer` is the share of a visual's bytes that makes it viewable (progressive images): all
    first layers go before any refinement; 1.0 sends visuals whole. With `fair`, a camera's n-th
    visual in a row counts a 1/n part of its priority, so that one camera cannot crowd out the rest.
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
        self._alerts: list[PendingEvent] = []
        self._visuals: dict[str, _Visual] = {}
        self._refining: dict[str, _Visual] = {}
        self._order: list[str] = []
        self._in_a_row: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._alerts) + len(self._visuals) + len(self._refining)

    def add(self, event: PendingEvent, camera: str = "", offset: int = 0) -> None:
        """Queue an event: its alert unless already sent, and its smaller visual if it has one.

        `offset` bytes of the visual have arrived already; it replaces what waits of that visual.

        Raises:
            ValueError: a negative or non-finite number, by the name of its field.
        """
        require_valid([event])
        if not event.json_sent:
            self._alerts.append(event)
            self._alerts.sort(key=lambda e: score(e.priority, e.json_bytes), reverse=True)
        unit = smaller_visual(event)
        if unit is not None:
            kind, size = unit
            layer = min(size, math.ceil(size * self._first_layer))
            self._visuals[event.id] = _Visual(event, kind, size, camera, offset, layer)
            self._order = []  # to be planned again

    def next_chunk(self, now: float) -> Chunk | None:
        """The next bytes to send; None when nothing waits. The same until it is reported sent."""
        return self.next_alert() or self.next_visual(now)

    def next_alert(self) -> Chunk | None:
        """The alert to send next, whole; None when none waits."""
        if not self._alerts:
            return None
        event = self._alerts[0]
        return Chunk(event.id, "json", 0, event.json_bytes, last=True)

    def next_visual(self, now: float, most: int | None = None) -> Chunk | None:
        """The next bytes of a visual, at most `most` (`Path.room`); None when no visual waits.

        `now` is on the clock of `captured_at`.
        """
        if self._visuals and not self._order:
            self._order = self._plan(now)
        if self._visuals:
            event_id = self._order[0]
            visual = self._visuals[event_id]
        elif self._refining:
            event_id, visual = next(iter(self._refining.items()))
        else:
            return None
        brief = max(PACKET, int(self.bandwidth.rate * CHUNK_SECONDS))
        size = min(self._chunk, brief, visual.goal - visual.sent)
        if most is not None:
            size = min(size, max(1, most))
        last = visual.sent + size == visual.goal
        return Chunk(event_id, visual.kind, visual.sent, size, last)

    def sent(self, chunk: Chunk, seconds: float | None = None) -> None:
        """Learn that the chunk went out: in `seconds`, where they teach the bandwidth.

        A chunk of what was removed or replaced meanwhile is passed over.
        """
        if seconds is not None and isinstance(self.bandwidth, Bandwidth):
            self.bandwidth.sent(chunk.size, seconds)
        if chunk.kind == "json":
            self._alerts = [e for e in self._alerts if e.id != chunk.event_id]
            return
        visuals = self._visuals if chunk.event_id in self._visuals else self._refining
        visual = visuals[chunk.event_id]
        visual.sent += chunk.size
        if not chunk.last:
            return
        del visuals[chunk.event_id]
        if visuals is self._visuals:
            self._order = []
            self._count(visual.camera)
            if visual.sent < visual.size:
                self._refining[chunk.event_id] = visual

    def remove(self, event_id: str, kind: Kind | None = None) -> None:
        """Take out what waits of an event: its alert ("json"), its visual, or both (`None`)."""
        if kind is None or kind == "json":
            self._alerts = [e for e in self._alerts if e.id != event_id]
        if kind != "json":
            self._visuals.pop(event_id, None)
            self._refining.pop(event_id, None)
            self._order = []

    def _count(self, camera: str) -> None:
        """Count one more visual of the camera in a row; one with nothing pending starts anew."""
        self._in_a_row[camera] = self._in_a_row.get(camera, 0) + 1
        pending = {visual.camera for visual in self._visuals.values()}
        self._in_a_row = {name: n for name, n in self._in_a_row.items() if name in pending}

    def _plan(self, now: float) -> list[str]:
        """The visuals in sending order, by what is left of them."""
        rank = self._ranks() if self._fair else {}
        left = []
        for visual in self._visuals.values():
            event = visual.event
            # A visual that is partly sent counts with the bytes that are missing. They are stated
            # as a ROI's whatever its kind: only the order of the plan is used.
            remainder = replace(
                event,
                priority=event.priority / rank.get(event.id, 1),
                roi_bytes=visual.layer - visual.sent,
                box_bytes=None,
                json_sent=True,
            )
            left.append(remainder)
        # The interval does not matter: `live` plans all that waits.
        limits = Limits.of(self.bandwidth.rate, 1.0, self._deadline, now)
        planned = planners.live(left, limits)
        return [unit.event_id for unit in planned]

    def _ranks(self) -> dict[str, int]:
        """By event id: the place that a visual would have in its camera's row, the best first."""
        count = dict(self._in_a_row)
        ranks = {}
        best_first = sorted(
            self._visuals.values(),
            key=lambda visual: score(visual.event.priority, visual.layer - visual.sent),
            reverse=True,
        )
        for visual in best_first:
            count[visual.camera] = count.get(visual.camera, 0) + 1
            ranks[visual.event.id] = count[visual.camera]
        return ranks
