"""A discrete-event uplink: one server, bandwidth constant within each second of a trace."""

import bisect
import csv
import hashlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from dat_runtime.errors import DataError
from dat_runtime.planning.live import LiveQueue
from dat_runtime.schedule import Kind, PendingEvent, Transmission
from eval.uplink.arrivals import Event, Window

HORIZON = 3600
"""Seconds after the last event at which a run ends, whatever is still queued."""


def read_trace(path: Path) -> list[float]:
    """Uplink bytes per second, one entry a second, of a `bandwidth.csv`.

    Raises:
        DataError: names the file and line.
    """
    try:
        content = path.read_bytes()
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError("is not UTF-8", path, line) from None
    except (OSError, csv.Error) as error:
        raise DataError(f"cannot be read: {error}", path) from None
    if not rows or rows[0] != ["second", "uplink_bytes_per_s"]:
        raise DataError("expected the header second,uplink_bytes_per_s", path, 1)
    trace: list[float] = []
    last = 0
    for number, row in enumerate(rows[1:], 2):
        try:
            time, rate = row
            second, value = int(time), float(rate)
        except ValueError:
            raise DataError(f"expected second,bytes per second; got {row}", path, number) from None
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"bandwidth must be finite and >= 0, got {rate}", path, number)
        if trace and second != last + 1:
            raise DataError(f"second {last} is followed by {second}", path, number)
        last = second
        trace.append(value)
    if not any(trace):
        raise DataError("holds no bandwidth", path)
    return trace


def window_start(trace: Sequence[float], setting: Window) -> int:
    """Where the window begins: at its place, or earlier where the trace ends before it."""
    return max(0, min(setting.start, len(trace) - setting.seconds))


def fingerprint(trace: Sequence[float], setting: Window) -> str:
    """Which piece of which trace the window is: sha256 of its values, the first 16 digits."""
    start = window_start(trace, setting)
    piece = trace[start : start + setting.seconds]
    return hashlib.sha256(",".join(f"{rate:.6g}" for rate in piece).encode()).hexdigest()[:16]


def window(trace: Sequence[float], setting: Window) -> list[float]:
    """The setting's window of the trace, rescaled to its mean.

    A trace too short for the window at its place gives its last `seconds` seconds, or all of it.
    """
    start = window_start(trace, setting)
    piece = trace[start : start + setting.seconds]
    mean = sum(piece) / len(piece)
    if not mean:
        raise DataError(f"the trace has no bandwidth in rows {start}..{start + len(piece)}")
    return [rate * setting.mean / mean for rate in piece]


class Link:
    """When bytes arrive. The trace repeats without end."""

    def __init__(self, bandwidth: Sequence[float]):
        self._rates = list(bandwidth)
        self._before = [0.0]  # bytes sent before each second
        for rate in self._rates:
            self._before.append(self._before[-1] + rate)
        if not self._before[-1]:
            raise ValueError("a link without any bandwidth never delivers")

    def bandwidth(self, second: float) -> float:
        return self._rates[int(second) % len(self._rates)]

    def carried(self, time: float) -> float:
        """Bytes that a busy link carries from time 0 until `time`."""
        rounds, second = divmod(int(time), len(self._rates))
        part = (time - int(time)) * self._rates[second]
        return rounds * self._before[-1] + self._before[second] + part

    def finish(self, start: float, size: float) -> float:
        """When the last of `size` bytes is sent, the first going out at `start`."""
        second = int(start)
        rate = self._rates[second % len(self._rates)]
        if rate and start + size / rate <= second + 1:
            return start + size / rate
        rounds, rest = divmod(self.carried(start) + size, self._before[-1])
        index = bisect.bisect_left(self._before, rest) - 1
        if index < 0:  # exactly at the end of a round
            rounds, index, rest = rounds - 1, len(self._rates) - 1, self._before[-1]
            while not self._rates[index]:
                index -= 1
        within = (rest - self._before[index]) / self._rates[index]
        return max(start, rounds * len(self._rates) + index + within)


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
    """The unit that raises the alert; without a JSON an event that lacks it sends nothing."""
    visual: bool = True
    expires: bool = False
    """Whether a visual older than the deadline is dropped."""


@dataclass
class Delivery:
    """What became of one event: times on the run's clock, None when it never arrived."""

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

    What was not begun when the next interval starts goes back to the queue and is planned again; a
    unit under way is finished first. Events are in order of queue entry.
    """
    deliveries = [Delivery(event) for event in events]
    by_id = {event.id: i for i, event in enumerate(events)}
    pending: dict[int, PendingEvent] = {}
    free_at, arrived, tick = 0.0, 0, 0
    while arrived < len(events) or pending:
        now = tick * interval
        if now > events[-1].entered_at + HORIZON:
            break
        if not pending and events[arrived].entered_at > now:
            tick = max(tick + 1, math.ceil(events[arrived].entered_at / interval))
            continue
        while arrived < len(events) and events[arrived].entered_at <= now:
            new = waiting(events[arrived], scheme)
            if scheme.alert == "json" or getattr(new, f"{scheme.alert}_bytes") is not None:
                pending[arrived] = new
            arrived += 1
        told = link.bandwidth(now) if forecast is None else forecast(now)
        planned = scheme.planner(list(pending.values()), told, interval, visual_deadline, now)
        free_at = max(free_at, now)
        for unit in planned:
            if free_at >= now + interval:
                break
            free_at = link.finish(free_at, unit.size)
            _deliver(deliveries, pending, by_id[unit.event_id], unit, free_at, scheme)
        tick += 1
        if scheme.expires:
            _expire(pending, tick * interval, visual_deadline)
    return deliveries


def run_live(
    events: Sequence[Event],
    link: Link,
    queue: LiveQueue,
    *,
    visual: bool = True,
    bias: float = 1.0,
) -> list[Delivery]:
    """Send chunk by chunk; events enter at capture. `bias` scales the bandwidth that is believed.

    Without `visual` only alerts are sent. `Delivery.visual_at` is when the visual is viewable.
    """
    deliveries = {event.id: Delivery(event) for event in events}
    coming = sorted(events, key=lambda event: event.captured_at)
    end, now, arrived = coming[-1].captured_at + HORIZON, 0.0, 0
    while now <= end:
        while arrived < len(coming) and coming[arrived].captured_at <= now:
            event = coming[arrived]
            sizes = (event.roi_bytes, event.box_bytes) if visual else (None, None)
            new = PendingEvent(
                event.id, event.priority, event.json_bytes, *sizes, event.captured_at
            )
            queue.add(new, event.camera)
            arrived += 1
        chunk = queue.next_chunk(now)
        if chunk is None:
            if arrived == len(coming):
                break
            now = coming[arrived].captured_at
            continue
        at = link.finish(now, chunk.size)
        queue.sent(chunk, (at - now) / bias)
        now = at
        delivery = deliveries[chunk.event_id]
        if chunk.kind == "json":
            delivery.json_at = at
        elif chunk.last and delivery.visual_at is None:
            delivery.visual_at, delivery.visual_kind = at, chunk.kind
    return list(deliveries.values())


def waiting(event: Event, scheme: Scheme) -> PendingEvent:
    """What the scheme's planner sees of an event."""
    roi = event.rois_bytes if scheme.all_rois else event.roi_bytes
    box = event.box_bytes
    if not scheme.visual:
        roi = box = None
    return PendingEvent(
        event.id,
        event.priority,
        event.json_bytes,
        roi,
        box,
        event.captured_at,
        json_sent=scheme.alert != "json",
    )


def _deliver(
    deliveries: list[Delivery],
    pending: dict[int, PendingEvent],
    index: int,
    unit: Transmission,
    at: float,
    scheme: Scheme,
) -> None:
    delivery, event = deliveries[index], pending[index]
    if unit.kind == "json":
        delivery.json_at = at
        if event.roi_bytes is None and event.box_bytes is None:
            del pending[index]
        else:
            pending[index] = replace(event, json_sent=True)
    else:
        delivery.visual_at, delivery.visual_kind = at, unit.kind
        del pending[index]


def _expire(pending: dict[int, PendingEvent], now: float, visual_deadline: float) -> None:
    """Forget visuals that are too old even if they took no time at all."""
    for index, event in list(pending.items()):
        if event.json_sent and now - event.captured_at > visual_deadline:
            del pending[index]
