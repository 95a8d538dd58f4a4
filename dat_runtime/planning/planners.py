"""The planners beyond Algorithm 1: `plus` selects better visuals, `live` orders all that waits.

Codes stand among their visuals as `planning.codes` says.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dat_runtime.planning import ontime
from dat_runtime.planning.algorithm1 import json_stage, scalar_plan, sent_in_order
from dat_runtime.planning.codes import Unit, bytes_before, codes_of, visuals_of, with_codes
from dat_runtime.planning.ontime import Jobs
from dat_runtime.planning.pending import Limits, PendingEvent, Transmission, require_valid


def plus(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
    """Algorithm 1's JSON stage, then the visuals that bring the most priority in time."""
    require_valid(events)
    if not limits.bandwidth:
        return []
    alerts, with_json, sent = json_stage(events, limits)
    visuals, codes = visuals_of(with_json), codes_of(with_json)
    jobs = _jobs(visuals, codes, sent, limits)
    chosen = ontime.best_selection(jobs, _greedy(jobs))
    ordered = [visuals[i] for i in ontime.sending_order(jobs, chosen)]
    planned = alerts + sent_in_order(with_codes(codes, ordered), sent, limits)
    if codes:
        # A code that a visual of less priority calls forward may make others late.
        priority = {event.id: event.priority for event in events}
        return max(planned, scalar_plan(events, limits), key=lambda p: _shown(p, priority))
    return planned


def live(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
    """All that waits, in the order to send it: alerts, visuals that can be in time, late visuals.

    Codes go before all late visuals. The interval does not bound it. The caller plans again
    whenever an event comes.
    """
    require_valid(events)
    if not limits.bandwidth:
        return []
    unlimited = replace(limits, capacity=math.inf)
    alerts, all_events, sent = json_stage(events, unlimited)
    visuals, codes = visuals_of(all_events), codes_of(all_events)
    jobs = _jobs(visuals, codes, sent, unlimited)
    in_time = ontime.sending_order(jobs, _reachable(jobs))
    late = set(range(len(jobs))) - set(in_time)
    late_order = [i for i in jobs.by_density() if i in late]
    units = [*with_codes(codes, [visuals[i] for i in in_time]), *(visuals[i] for i in late_order)]
    return alerts + _in_order(units, sent, limits)


def _jobs(visuals: Sequence[Unit], codes: Sequence[Unit], sent: int, limits: Limits) -> Jobs:
    """The visuals, each due by so much earlier as the codes before it take."""
    before = bytes_before(codes, visuals)
    due = [limits.due(limits.age(event)) for event, _, _ in visuals]
    return Jobs(
        weights=[event.priority for event, _, _ in visuals],
        sizes=[size for _, _, size in visuals],
        due=[at - ahead for at, ahead in zip(due, before, strict=True)],
        sent=sent,
    )


def _shown(planned: Iterable[Transmission], priority: Mapping[str, float]) -> float:
    """The priority of all events whose visual is in a plan."""
    return math.fsum(priority[unit.event_id] for unit in planned if unit.kind in ("roi", "box"))


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


def _in_order(units: Iterable[Unit], sent: int, limits: Limits) -> list[Transmission]:
    """The units as transmissions that follow `sent` bytes of alerts."""
    planned = []
    for event, kind, size in units:
        sent += size
        planned.append(Transmission(event.id, kind, size, sent / limits.bandwidth))
    return planned
