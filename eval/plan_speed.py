"""How fast `plan(policy="dat")` is, in milliseconds and against one stable argsort in the same run.

python benchmarks/plan_speed.py
"""

import argparse
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


def drawn(count: int, seed: int = 0) -> list[PendingEvent]:
    """Events with the sizes of C0, roughly."""
    rng = np.random.default_rng(seed)
    priority = rng.uniform(0.025, 1.0, count).tolist()
    json_bytes = rng.integers(300, 600, count).tolist()
    roi = rng.integers(3_000, 40_000, count).tolist()
    box = rng.integers(10_000, 90_000, count).tolist()
    return [PendingEvent(f"e{i}", priority[i], json_bytes[i], roi[i], box[i]) for i in range(count)]


def best_ms(work: Callable[[], Any], seconds: float) -> float:
    """The fastest of repeated calls within about that time, milliseconds."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        made = work()
        best = min(best, time.perf_counter() - start)
        del made  # freeing the result is not part of the work
    return 1000 * best


def measured(seconds: float = 1.0) -> list[dict[str, float]]:
    """By N: milliseconds of a plan, of one argsort of 100,000 floats, and their ratio to what is
    demanded (below 1 passes); the demand scales with this machine's argsort."""
    keys = np.random.default_rng(1).random(100_000)
    argsort = best_ms(lambda: np.argsort(keys, kind="stable"), seconds / 2)
    rows = []
    for count, limit in LIMITS_MS.items():
        for name, bandwidth in (("a second at 475 kB/s", BANDWIDTH), ("all alerts", 500.0 * count)):
            events = drawn(count)
            milliseconds = best_ms(lambda e=events, b=bandwidth: plan(e, b), seconds)
            rows.append(
                {
                    "events": count,
                    "budget": name,
                    "units": len(plan(events, bandwidth)),
                    "plan_ms": milliseconds,
                    "argsort_100k_ms": argsort,
                    "argsorts": milliseconds / argsort,
                    "limit_ms": limit,
                    "limit_argsorts": limit / ORDINARY_ARGSORT_MS,
                }
            )
    return rows


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/plan_speed.py", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each row (default 2)")
    args = parser.parse_args(argv)
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    print("   events  budget                 units   plan ms  argsorts of 100k  limit ms  argsorts")
    for row in measured(args.seconds):
        print(
            f"{row['events']:9,}  {row['budget']:20} {row['units']:7,} {row['plan_ms']:9.3f}"
            f" {row['argsorts']:17.3f} {row['limit_ms']:9.1f} {row['limit_argsorts']:9.3f}"
        )
    print(f"one stable argsort of 100,000 floats: {row['argsort_100k_ms']:.2f} ms")
    return 0
