"""The planners beyond Algorithm 1: `plus` selects better visuals, `live` orders all that waits."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dat_runtime.planning import ontime
from dat_runtime.planning.algorithm1 import json_stage
from dat_runtime.planning.ontime import Jobs
from dat_runtime.planning.pending import (
    Kind,
    Limits,
    PendingEvent,
    Transmission,
    require_valid,
    smaller_visual,
)

Visual = tuple[PendingEvent, Kind, int]
"""An event with its cheaper visual and that one's bytes."""


def plus(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
    """Algorithm 1's JSON stage, then the visuals that bring the most priority in time."""
    require_valid(events)
    if not limits.bandwidth:
        return []
    alerts, with_json, sent = json_stage(events, limits)
    visuals = _visuals_of(with_json)
    jobs = _jobs(visuals, sent, limits)
    chosen = ontime.best_selection(jobs, _greedy(jobs))
    return alerts + _in_order(visuals, ontime.sending_order(jobs, chosen), sent, limits)


def live(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
    """All that waits, in the order to send it: alerts, visuals that can be in time, late visuals.

    The interval does not bound it. The caller plans again whenever an event comes.
    """
    require_valid(events)
    if not limits.bandwidth:
        return []
    unlimited = replace(limits, capacity=math.inf)
    alerts, all_events, sent = json_stage(events, unlimited)
    visuals = _visuals_of(all_events)
    jobs = _jobs(visuals, sent, unlimited)
    in_time = ontime.sending_order(jobs, _reachable(jobs))
    late = set(range(len(jobs))) - set(in_time)
    late_order = [i for i in jobs.by_density() if i in late]
    return alerts + _in_order(visuals, in_time + late_order, sent, limits)


def _visuals_of(events: Iterable[PendingEvent]) -> list[Visual]:
    visuals = []
    for event in events:
        unit = smaller_visual(event)
        if unit is not None:
            visuals.append((event, *unit))
    return visuals


def _jobs(visuals: Sequence[Visual], sent: int, limits: Limits) -> Jobs:
    return Jobs(
        weights=[event.priority for event, _, _ in visuals],
        sizes=[size for _, _, size in visuals],
        due=[limits.due(limits.age(event)) for event, _, _ in visuals],
        sent=sent,
    )


def _greedy(jobs: Jobs) -> list[int]:
    """What Algorithm 1 would choose (lines 18-24)."""
    chosen = []
    total = jobs.sent
    for i in jobs.by_density():
        if total + jobs.sizes[i] <= jobs.due[i]:
            total += jobs.sizes[i]
            chosen.append(i)
    return chosen


def _reachable(jobs: Jobs) -> list[int]:
    """Visuals that can all be in time: by EDF insertion, of many by the faster Moore-Hodgson."""
    if len(jobs) > ontime.INSERTION_UP_TO:
        return ontime.moore_hodgson(jobs)
    return ontime.insertion(jobs)


def _in_order(
    visuals: Sequence[Visual], order: Iterable[int], sent: int, limits: Limits
) -> list[Transmission]:
    """The visuals as transmissions that follow `sent` bytes of alerts."""
    planned = []
    for i in order:
        event, kind, size = visuals[i]
        sent += size
        planned.append(Transmission(event.id, kind, size, sent / limits.bandwidth))
    return planned
