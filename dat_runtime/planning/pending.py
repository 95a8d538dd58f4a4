"""What waits for the uplink, what is sent of it, and what bounds one interval.

Sizes are bytes, bandwidth bytes per second, times seconds. Two float expressions of Algorithm 1
decide everything, and every planner uses the very same ones:
    a unit fits the interval    sent + c <= B * interval            (r >= c, lines 8 and 20)
    a visual is in time         age + (sent + c) / B <= D_vis       (line 20; age = 0 without `now`)
where `sent` is the sum of the sizes planned so far. Sizes are whole bytes, so sums are exact and
t = sent / B carries one rounding only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dat_runtime.fields import is_finite, shown

Kind = Literal["json", "code", "roi", "box"]
VISUAL_DEADLINE = 1.5
"""D_vis of section 4.1, seconds."""

EXACT = 2.0**53
"""Whole numbers up to here are exact in float64."""


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """One event that waits for the uplink: M_i = {json, roi, box} and its priority S_i (Eq. 7).

    On a node too weak for the MLLM it may have a code too (decisions/028-offload-table.md).
    """

    id: str
    priority: float
    json_bytes: int
    roi_bytes: int | None
    """The representative ROI; None when the event has none."""
    box_bytes: int | None
    captured_at: float = 0.0
    """Seconds on the caller's clock."""
    json_sent: bool = False
    """The alert went out earlier and only the rest is pending: Eq. 9 holds already."""
    code_bytes: int | None = None
    """What the cloud needs to answer in full, of an event that the gate alone has answered; None
    when there is no such unit, or it was sent. It is no visual evidence and has no deadline."""


class Transmission(NamedTuple):
    """One unit of π_τ, in sending order."""

    event_id: str
    kind: Kind
    size: int
    """Bytes."""
    done_at: float
    """T^tx of Eq. 10: seconds from the interval's start until its last byte is sent."""


@dataclass(frozen=True)
class Limits:
    """What bounds one interval."""

    bandwidth: float
    capacity: float
    """C = B * interval (Eq. 8), bytes."""
    visual_deadline: float
    now: float | None
    """None: ages count as 0, Algorithm 1 to the letter."""

    @classmethod
    def of(
        cls, bandwidth: float, interval: float, visual_deadline: float, now: float | None
    ) -> "Limits":
        """The limits of an interval of so many seconds.

        Raises:
            ValueError: a negative or non-finite number, by its name (`now` may be negative).
        """
        for name, value in (
            ("bandwidth", bandwidth),
            ("interval", interval),
            ("visual_deadline", visual_deadline),
        ):
            require(is_finite(value) and value >= 0, name, value)
        if now is not None and not is_finite(now):
            raise ValueError(f"now must be finite, got {shown(now)}")
        return cls(bandwidth, bandwidth * interval, visual_deadline, now)

    def age(self, event: PendingEvent) -> float:
        return 0.0 if self.now is None else self.now - event.captured_at

    def in_time(self, age: float, total: float) -> bool:
        """The visual test of line 20, where `total` includes the visual's own bytes."""
        return age + total / self.bandwidth <= self.visual_deadline

    def due(self, age: float) -> int:
        """The most bytes, from the interval's start, with which a visual fits and is in time.

        -1 where it cannot be in time. Ages may be of any size: product and quotient are rounded,
        each its own way, so the test of line 20 itself decides.
        """
        highest = math.floor(min(self.capacity, EXACT))
        guess = math.floor(min(max((self.visual_deadline - age) * self.bandwidth, -1.0), highest))
        fits, does_not = -1, highest + 1
        # The guess is nearly always right; where it is not, half of what is left goes at each step.
        for total in (guess, guess + 1):
            if fits < total < does_not:
                if self.in_time(age, total):
                    fits = total
                else:
                    does_not = total
        while does_not - fits > 1:
            total = (fits + does_not) // 2
            if self.in_time(age, total):
                fits = total
            else:
                does_not = total
        return fits


def smaller_visual(event: PendingEvent) -> tuple[Kind, int] | None:
    """(k*, c_vis) of Eq. 14: the cheaper visual unit, None for an event that has none."""
    roi, box = event.roi_bytes, event.box_bytes
    if roi is not None and (box is None or roi <= box):
        return "roi", roi
    return None if box is None else ("box", box)


def score(priority: float, size: float) -> float:
    """φ or ψ: priority gained per byte (Eq. 15); a unit of no bytes costs nothing."""
    return priority / size if size else math.inf


_MAY_BE_NONE = ("roi_bytes", "box_bytes", "code_bytes")


def require_valid(events: Sequence[PendingEvent]) -> None:
    """Refuse events with a negative or non-finite number.

    Raises:
        ValueError: names the field and the event.
    """
    for event in events:
        for name in ("priority", "json_bytes", *_MAY_BE_NONE):
            value = getattr(event, name)
            if value is None and name in _MAY_BE_NONE:
                continue
            require(is_finite(value) and value >= 0, name, value, event.id)
        at = event.captured_at
        if not is_finite(at):
            raise ValueError(f"captured_at of event {event.id!r} must be finite, got {shown(at)}")


def require(holds: bool, name: str, value: float, event_id: str | None = None) -> None:
    """Refuse a number by its name unless what is required of it holds."""
    if not holds:
        of_event = "" if event_id is None else f" of event {event_id!r}"
        raise ValueError(f"{name}{of_event} must be finite and not negative, got {shown(value)}")
