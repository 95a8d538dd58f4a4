"""The planners beyond Algorithm 1: `dat_plus` selects better visuals, `dat_live` orders all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dat_runtime.planning import ontime
from dat_runtime.planning.algorithm1 import json_stage
from dat_runtime.planning.pending import (
    Kind,
    Limits,
    PendingEvent,
    Transmission,
    require_valid,
    smaller_visual,
)


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


def plus(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
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


def live(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
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
