"""How fast `plan(policy="dat")` is, in milliseconds and against one stable argsort in the same run.

python benchmarks/plan_speed.py
"""

import argparse
import functools
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dat_runtime.errors import reports_errors
from dat_runtime.schedule import PendingEvent, plan

LIMITS_MS = {1_000: 0.5, 100_000: 60.0}
"""What experiments.md demands of one ordinary core."""

ORDINARY_ARGSORT_MS = 9.0
"""One stable argsort of 100,000 floats on that core."""

BANDWIDTH = 475_000.0
"""Bytes per second: C0 at 0.25x."""

A_SECOND = "a second, 475 kB/s"


def drawn(count: int, seed: int = 0) -> list[PendingEvent]:
    """Events with the sizes of C0, roughly."""
    rng = np.random.default_rng(seed)
    priority = rng.uniform(0.025, 1.0, count).tolist()
    json_bytes = rng.integers(300, 600, count).tolist()
    roi = rng.integers(3_000, 40_000, count).tolist()
    box = rng.integers(10_000, 90_000, count).tolist()
    return [PendingEvent(f"e{i}", priority[i], json_bytes[i], roi[i], box[i]) for i in range(count)]


def best_ms(work: Callable[[], Any], seconds: float) -> float:
    """The fastest of repeated calls within about that time, in milliseconds of CPU time, so that
    a busy neighbour does not count."""
    best, end = float("inf"), time.process_time() + seconds
    while time.process_time() < end or best == float("inf"):
        start = time.process_time()
        made = work()
        best = min(best, time.process_time() - start)
        del made  # freeing the result is not part of the work
    return 1000 * best


def measured(seconds: float = 1.0) -> list[dict[str, Any]]:
    """By N and budget: CPU milliseconds of a plan, and in argsorts of 100,000 floats.

    The demand is on planning a second of the link. With room for every alert the plan itself has
    N entries, and making that list takes longer than planning: shown, nothing is demanded of it.
    """
    keys = np.random.default_rng(1).random(100_000)
    argsort = best_ms(lambda: np.argsort(keys, kind="stable"), seconds / 2)
    rows: list[dict[str, Any]] = []
    for count, limit in LIMITS_MS.items():
        events = drawn(count)
        for budget, bandwidth in ((A_SECOND, BANDWIDTH), ("every alert", 500.0 * count)):
            work = functools.partial(plan, events, bandwidth)
            milliseconds = best_ms(work, seconds)
            rows.append(
                {
                    "events": count,
                    "budget": budget,
                    "units": len(work()),
                    "plan_ms": milliseconds,
                    "argsorts": milliseconds / argsort,
                    "argsort_ms": argsort,
                    "limit_ms": limit if budget == A_SECOND else None,
                    "limit_argsorts": limit / ORDINARY_ARGSORT_MS,
                }
            )
    return rows


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="benchmarks/plan_speed.py", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each row (default 2)")
    args = parser.parse_args(argv)
    rows = measured(args.seconds)
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    print("   events  room for             units sent   plan ms  argsorts  demanded: ms  argsorts")
    for row in rows:
        demand = "-"
        if row["limit_ms"]:
            demand = f"{row['limit_ms']:13.1f} {row['limit_argsorts']:9.3f}"
        print(
            f"{row['events']:9,}  {row['budget']:20} {row['units']:10,} {row['plan_ms']:9.3f}"
            f" {row['argsorts']:9.3f} {demand:>13}"
        )
    print(f"one stable argsort of 100,000 floats: {rows[0]['argsort_ms']:.2f} ms; all CPU time")
    return 0
