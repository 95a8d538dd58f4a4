"""The live queue as it was first written: slow and simple, the oracle of the fast one.

It plans all that waits again for every visual.
"""

import math
from dataclasses import dataclass, replace

from dat_runtime.planning import planners
from dat_runtime.planning.live import CHUNK, CHUNK_SECONDS, PACKET, Bandwidth, Chunk
from dat_runtime.planning.pending import (
    VISUAL_DEADLINE,
    Kind,
    Limits,
    PendingEvent,
    require_valid,
    score,
    smaller_visual,
)


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


class SlowQueue:
    """What waits for one uplink, and the next chunk to send."""

    def __init__(
        self,
        bandwidth: Bandwidth,
        visual_deadline: float = VISUAL_DEADLINE,
        *,
        chunk: int = CHUNK,
        first_layer: float = 1.0,
        fair: bool = False,
    ):
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

    def add(self, event: PendingEvent, camera: str = "") -> None:
        """Queue an event: its alert unless already sent, and its smaller visual if it has one.

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
            self._visuals[event.id] = _Visual(event, kind, size, camera, layer=layer)
            self._order = []  # to be planned again

    def next_chunk(self, now: float) -> Chunk | None:
        """The next bytes to send; None when nothing waits. The same until it is reported sent."""
        if self._alerts:
            event = self._alerts[0]
            return Chunk(event.id, "json", 0, event.json_bytes, last=True)
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
        last = visual.sent + size == visual.goal
        return Chunk(event_id, visual.kind, visual.sent, size, last)

    def sent(self, chunk: Chunk, seconds: float) -> None:
        """Learn that the chunk went out, in `seconds`."""
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
