"""Sending the events of a run over a link: in slots, as the paper plans, or chunk by chunk."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dat_runtime.planning.live import LiveQueue
from dat_runtime.schedule import Kind, PendingEvent, Transmission
from eval.uplink.arrivals import Event
from eval.uplink.link import Link

HORIZON = 3600
"""Seconds after the last event at which a run ends, whatever is still queued."""


class Planner(Protocol):
    """The signature of `dat_runtime.schedule.plan`."""

    def __call__(
        self,
        events: Sequence[PendingEvent],
        bandwidth: float,
        interval: float,
        visual_deadline: float,
        now: float | None,
    ) -> list[Transmission]: ...


@dataclass(frozen=True)
class Scheme:
    """A planner and what its events carry."""

    name: str
    planner: Planner
    all_rois: bool = False
    """Whether "ROI" means all ROIs of the event; else the representative one."""
    alert: Kind = "json"
    """The unit that raises the alert. An event that lacks it sends nothing."""
    visual: bool = True
    expires: bool = False
    """Whether a visual older than the deadline is dropped."""


@dataclass
class Delivery:
    """When the units of one event arrived, on the run's clock; None: never."""

    event: Event
    json_at: float | None = None
    visual_at: float | None = None
    visual_kind: str = ""


def run_slotted(
    events: Sequence[Event],
    link: Link,
    scheme: Scheme,
    *,
    interval: float = 1.0,
    visual_deadline: float = 1.5,
    forecast: Callable[[float], float] | None = None,
) -> list[Delivery]:
    """Plan at every interval's start, send in the planned order, one unit after the other.

    A unit not begun when the next interval starts goes back to the queue and is planned again; a
    unit under way is finished first. Events are in order of queue entry. `forecast` gives the
    bandwidth that the planner believes at a time; the default is the link's own.
    """
    believed = link.bandwidth if forecast is None else forecast
    deliveries = {event.id: Delivery(event) for event in events}
    pending: dict[str, PendingEvent] = {}
    end = events[-1].entered_at + HORIZON
    free_at = 0.0  # when the link has sent all that was begun
    entered = 0  # events that have entered the queue so far
    tick = 0
    while entered < len(events) or pending:
        now = tick * interval
        if now > end:
            break
        if not pending and events[entered].entered_at > now:
            # Nothing waits: go on at the interval in which the next event enters.
            tick = max(tick + 1, math.ceil(events[entered].entered_at / interval))
            continue
        while entered < len(events) and events[entered].entered_at <= now:
            event = waiting(events[entered], scheme)
            if _can_alert(event, scheme):
                pending[event.id] = event
            entered += 1

        waiting_events = list(pending.values())
        planned = scheme.planner(waiting_events, believed(now), interval, visual_deadline, now)
        free_at = max(free_at, now)
        for unit in planned:
            if free_at >= now + interval:
                break  # the rest is planned again at the next interval's start
            free_at = link.finish(free_at, unit.size)
            _deliver(deliveries[unit.event_id], pending, unit, free_at)
        tick += 1
        if scheme.expires:
            _drop_late_visuals(pending, tick * interval, visual_deadline)
    return list(deliveries.values())


def waiting(event: Event, scheme: Scheme) -> PendingEvent:
    """What the scheme's planner sees of an event."""
    roi, box = None, None
    if scheme.visual:
        roi = event.rois_bytes if scheme.all_rois else event.roi_bytes
        box = event.box_bytes
    return PendingEvent(
        event.id,
        event.priority,
        event.json_bytes,
        roi,
        box,
        event.captured_at,
        json_sent=scheme.alert != "json",
    )


def _can_alert(event: PendingEvent, scheme: Scheme) -> bool:
    """Whether the event has the unit that raises the scheme's alert."""
    sizes = {"json": event.json_bytes, "roi": event.roi_bytes, "box": event.box_bytes}
    return sizes[scheme.alert] is not None


def _deliver(
    delivery: Delivery, pending: dict[str, PendingEvent], unit: Transmission, at: float
) -> None:
    """Note that a unit has arrived; an event with nothing left to send leaves the queue."""
    event = pending[unit.event_id]
    if unit.kind == "json":
        delivery.json_at = at
        has_visual = event.roi_bytes is not None or event.box_bytes is not None
        if has_visual:
            pending[event.id] = replace(event, json_sent=True)
            return
    else:
        delivery.visual_at = at
        delivery.visual_kind = unit.kind
    del pending[event.id]


def _drop_late_visuals(
    pending: dict[str, PendingEvent], now: float, visual_deadline: float
) -> None:
    """Drop visuals that would be too old even if sending them took no time at all."""
    for event in list(pending.values()):
        if event.json_sent and now - event.captured_at > visual_deadline:
            del pending[event.id]


def run_live(
    events: Sequence[Event],
    link: Link,
    queue: LiveQueue,
    *,
    visual: bool = True,
    bias: float = 1.0,
) -> list[Delivery]:
    """Send chunk by chunk; events enter the queue at capture.

    `bias` scales the bandwidth that the queue estimates. Without `visual` only alerts are sent.
    `Delivery.visual_at` is when the visual can be viewed.
    """
    deliveries = {event.id: Delivery(event) for event in events}
    coming = sorted(events, key=lambda event: event.captured_at)
    end = coming[-1].captured_at + HORIZON
    now = 0.0
    entered = 0  # events that have entered the queue so far
    while now <= end:
        while entered < len(coming) and coming[entered].captured_at <= now:
            event = coming[entered]
            queue.add(live_event(event, visual), event.camera)
            entered += 1
        chunk = queue.next_chunk(now)
        if chunk is None:
            if entered == len(coming):
                break
            now = coming[entered].captured_at
            continue
        at = link.finish(now, chunk.size)
        queue.sent(chunk, (at - now) / bias)
        now = at
        delivery = deliveries[chunk.event_id]
        if chunk.kind == "json":
            delivery.json_at = at
        elif chunk.last and delivery.visual_at is None:  # later layers only refine it
            delivery.visual_at = at
            delivery.visual_kind = chunk.kind
    return list(deliveries.values())


def live_event(event: Event, visual: bool) -> PendingEvent:
    return PendingEvent(
        event.id,
        event.priority,
        event.json_bytes,
        event.roi_bytes if visual else None,
        event.box_bytes if visual else None,
        event.captured_at,
    )
