"""How fast `plan(policy="dat")` is, in milliseconds and against one stable argsort in the same run.

The acceptance of the transmission study demands it; `python -m benchmarks.plan_speed` prints it.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dat_runtime.schedule import PendingEvent, plan

LIMITS_MS = {1_000: 0.5, 100_000: 60.0}
"""Milliseconds demanded of one ordinary core, by number of events."""

ORDINARY_ARGSORT_MS = 9.0
"""One stable argsort of 100,000 floats on that core."""

BANDWIDTH = 475_000.0
"""Bytes per second: C0 at 0.25x."""

BYTES_PER_ALERT = 500.0
"""More than the mean JSON of `drawn`, 450 bytes: room for every alert."""

A_SECOND = "a second, 475 kB/s"
EVERY_ALERT = "every alert"


def drawn(count: int, seed: int = 0) -> list[PendingEvent]:
    """Events with the sizes of C0, roughly."""
    rng = np.random.default_rng(seed)
    priority = rng.uniform(0.025, 1.0, count).tolist()
    json_bytes = rng.integers(300, 600, count).tolist()
    roi = rng.integers(3_000, 40_000, count).tolist()
    box = rng.integers(10_000, 90_000, count).tolist()
    return [PendingEvent(f"e{i}", priority[i], json_bytes[i], roi[i], box[i]) for i in range(count)]


def best_ms(work: Callable[[], Any], seconds: float) -> float:
    """Milliseconds of the fastest call, repeated for about so many seconds.

    CPU time, so that other work on the machine does not count.
    """
    best = float("inf")
    end = time.process_time() + seconds
    while time.process_time() < end or best == float("inf"):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
        del result  # freeing it is not part of the work
    return 1000 * best


def measured(seconds: float = 1.0) -> list[dict[str, Any]]:
    """By N and budget: what a plan takes, in CPU milliseconds and in argsorts of 100,000 floats.

    The demand is on planning a second of the link. With room for every alert the plan itself has
    N entries, and making that list takes longer than planning: this is shown without a demand.
    """
    keys = np.random.default_rng(1).random(100_000)
    argsort_ms = best_ms(lambda: np.argsort(keys, kind="stable"), seconds / 2)
    rows: list[dict[str, Any]] = []
    for count, limit_ms in LIMITS_MS.items():
        events = drawn(count)
        budgets = {A_SECOND: BANDWIDTH, EVERY_ALERT: BYTES_PER_ALERT * count}
        for budget, bandwidth in budgets.items():
            work = functools.partial(plan, events, bandwidth)
            plan_ms = best_ms(work, seconds)
            rows.append(
                {
                    "events": count,
                    "budget": budget,
                    "units": len(work()),
                    "plan_ms": plan_ms,
                    "argsorts": plan_ms / argsort_ms,
                    "argsort_ms": argsort_ms,
                    "limit_ms": limit_ms if budget == A_SECOND else None,
                    "limit_argsorts": limit_ms / ORDINARY_ARGSORT_MS,
                }
            )
    return rows
