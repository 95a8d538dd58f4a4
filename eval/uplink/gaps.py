"""Beyond the paper: how far from the optimum the visuals of one interval's plan are."""

import functools
import itertools
import math
from typing import Any

import numpy as np

from dat_runtime.planning.pending import Limits
from dat_runtime.schedule import PendingEvent, plan
from eval.uplink.optimum import best_by_enumeration, best_by_milp
from eval.uplink.parallel import in_parallel

GAP_CASES = tuple(itertools.product((8, 16, 40, 100), (0.25, 0.5, 0.75)))
"""(number of visuals, budget as a share of their bytes)."""

ENUMERATED_UP_TO = 8
"""Visuals up to which the mixed-integer program is checked by enumeration."""


def gap_study(instances: int) -> list[dict[str, Any]]:
    """The share of the optimal on-time priority that one interval's plan loses, in percent.

    One row for each number of visuals and each budget. The optimum is that of the mixed-integer
    program, checked by enumeration for N = 8.
    """
    job = functools.partial(_gaps, instances)
    return in_parallel(job, GAP_CASES, "optimality gaps")


def _gaps(instances: int, case: tuple[int, float]) -> dict[str, Any]:
    count, share = case
    rng = np.random.default_rng([count, int(100 * share)])
    lost: dict[str, list[float]] = {"dat": [], "dat_plus": []}
    for _ in range(instances):
        events, bandwidth = _instance(rng, count, share)
        optimum = _optimum(events, bandwidth)
        priority = {event.id: event.priority for event in events}
        for policy, losses in lost.items():
            planned = plan(events, bandwidth, now=1.0, policy=policy)
            shown = math.fsum(priority[unit.event_id] for unit in planned)
            losses.append(1 - shown / optimum if optimum else 0.0)
    row: dict[str, Any] = {"visuals": count, "budget": share, "instances": instances}
    for policy, losses in lost.items():
        mean = 100 * sum(losses) / len(losses)
        row[policy] = {"mean": mean, "worst": 100 * max(losses)}
    return row


def _optimum(events: list[PendingEvent], bandwidth: float) -> float:
    """The most priority that any selection of the visuals shows in time."""
    limits = Limits.of(bandwidth, interval=1.0, visual_deadline=1.5, now=1.0)
    weights = [event.priority for event in events]
    sizes = [event.box_bytes or 0 for event in events]
    due = [limits.due(limits.age(event)) for event in events]
    optimum = best_by_milp(weights, sizes, due)
    if len(events) <= ENUMERATED_UP_TO:
        enumerated = best_by_enumeration(weights, sizes, due)
        if not math.isclose(optimum, enumerated):
            raise AssertionError("the mixed-integer program and the enumeration disagree")
    return optimum


def _instance(
    rng: np.random.Generator, count: int, share: float
) -> tuple[list[PendingEvent], float]:
    """Visuals whose alerts went out, captured up to 1 s before the interval starts.

    The bandwidth has room for `share` of their bytes in an interval of 1 s.
    """
    # The median is exp(9.5) = 13 kB, the mean 18 kB.
    sizes = np.maximum(1, rng.lognormal(9.5, 0.8, count)).astype(int).tolist()
    events = []
    for i, size in enumerate(sizes):
        events.append(
            PendingEvent(
                id=f"e{i}",
                priority=float(rng.uniform(0.05, 1.0)),
                json_bytes=0,
                roi_bytes=None,
                box_bytes=size,
                captured_at=float(rng.uniform(0.0, 1.0)),
                json_sent=True,
            )
        )
    return events, share * sum(sizes)
