"""Which units to send over the uplink, and in what order (Eq. 8-15, Algorithm 1), and better.

Pure: reads no clock, socket or file.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dat_runtime.planning import ontime
from dat_runtime.planning.algorithm1 import algorithm_1, json_stage
from dat_runtime.planning.pending import (
    VISUAL_DEADLINE,
    Kind,
    Limits,
    PendingEvent,
    Transmission,
    is_finite,
    require,
    require_valid,
    shown,
    smaller_visual,
)

__all__ = ["VISUAL_DEADLINE", "Kind", "PendingEvent", "Transmission", "plan"]


def plan(
    events: Sequence[PendingEvent],
    bandwidth: float,
    interval: float = 1.0,
    visual_deadline: float = VISUAL_DEADLINE,
    now: float | None = None,
    policy: str = "dat",
) -> list[Transmission]:
    """What to send in the coming interval, in sending order.

    `policy="dat"` is Algorithm 1; `"dat_plus"` selects better visuals; `"dat_live"` orders all that
    waits, whatever the interval. With `now`, the age of a visual counts against its deadline:
    `now - captured_at + t + c/B <= visual_deadline`. An event without ROI and boxed image sends its
    JSON only; equal scores keep the input order; a ROI goes before a boxed image of equal size.
    A unit of no bytes costs nothing and comes first. Zero bandwidth gives an empty plan.

    Raises:
        ValueError: a negative or non-finite number, by the name of its field (times may be
            negative); an unknown policy.
    """
    for name, value in (
        ("bandwidth", bandwidth),
        ("interval", interval),
        ("visual_deadline", visual_deadline),
    ):
        require(is_finite(value) and value >= 0, name, value)
    if now is not None and not is_finite(now):
        raise ValueError(f"now must be finite, got {shown(now)}")
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(sorted(POLICIES))}, got {policy!r}")
    limits = Limits(bandwidth, bandwidth * interval, visual_deadline, now)
    return POLICIES[policy](events, limits)


@dataclass(frozen=True)
class _Visuals:
    """The visuals that may be sent, as `ontime` wants them; one entry each."""

    events: list[PendingEvent]
    kinds: list[Kind]
    sizes: list[int]
    weights: list[float]
    due: list[float]
    """Bytes from the interval's start by which the visual must be through."""


def _visuals(events: Sequence[PendingEvent], limits: Limits) -> _Visuals:
    units = [(event, *unit) for event in events if (unit := smaller_visual(event))]
    return _Visuals(
        events=[event for event, _, _ in units],
        kinds=[kind for _, kind, _ in units],
        sizes=[size for _, _, size in units],
        weights=[event.priority for event, _, _ in units],
        due=[limits.due(limits.age(event)) for event, _, _ in units],
    )


def _plus(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
    """Algorithm 1's JSON stage, then the visuals that bring the most priority in time."""
    require_valid(events)
    if not limits.bandwidth:
        return []
    planned, with_json, sent = json_stage(events, limits)
    visuals = _visuals(with_json, limits)
    greedy, total = [], sent
    for i in ontime.by_density(visuals.weights, visuals.sizes):  # lines 18-24
        if total + visuals.sizes[i] <= visuals.due[i]:
            total += visuals.sizes[i]
            greedy.append(i)
    values = (visuals.weights, visuals.sizes, visuals.due, sent)
    chosen = ontime.best_selection(*values, greedy)
    return planned + _in_order(visuals, ontime.sending_order(*values, chosen), sent, limits)


def _live(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
    """All that waits, in the order to send it from now on; to be planned again whenever an event
    comes. Alerts, then the visuals that can be in time (EDF insertion), then the late ones."""
    require_valid(events)
    if not limits.bandwidth:
        return []
    unlimited = replace(limits, capacity=math.inf)
    planned, all_events, sent = json_stage(events, unlimited)
    visuals = _visuals(all_events, unlimited)
    values = (visuals.weights, visuals.sizes, visuals.due, sent)
    in_time = ontime.sending_order(*values, _reachable(*values))
    late = set(range(len(visuals.sizes))) - set(in_time)
    order = in_time + [i for i in ontime.by_density(visuals.weights, visuals.sizes) if i in late]
    return planned + _in_order(visuals, order, sent, limits)


def _reachable(
    weights: Sequence[float], sizes: Sequence[float], due: Sequence[float], sent: float
) -> list[int]:
    if len(sizes) > ontime.INSERTION_UP_TO:
        return ontime.moore_hodgson(weights, sizes, due, sent)
    return ontime.insertion(weights, sizes, due, sent)


def _in_order(
    visuals: _Visuals, order: Sequence[int], sent: int, limits: Limits
) -> list[Transmission]:
    planned = []
    for i in order:
        sent += visuals.sizes[i]
        done_at = sent / limits.bandwidth
        planned.append(
            Transmission(visuals.events[i].id, visuals.kinds[i], visuals.sizes[i], done_at)
        )
    return planned


POLICIES: dict[str, Callable[[Sequence[PendingEvent], Limits], list[Transmission]]] = {
    "dat": algorithm_1,
    "dat_plus": _plus,
    "dat_live": _live,
}
