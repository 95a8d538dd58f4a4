"""The live queue with thousands waiting: `add`, the next alert and the next visual, CPU time each.

    python -m benchmarks.live_queue [--waiting 20000] [--slow]

Every figure is of single calls, the collector of cyclic garbage switched off: with it, a call in
tens of thousands takes some ten milliseconds for what others left. `--slow` measures the queue as
it was first written (`tests/dat_runtime/planning/slow_queue.py`) beside it, for as long as one can
wait: it plans everything again for every visual.
"""

import argparse
import gc
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from dat_runtime.command import command
from dat_runtime.errors import reports_errors
from dat_runtime.planning.live import Bandwidth, LiveQueue
from dat_runtime.schedule import PendingEvent

RATE = 250e3
"""Bytes a second of the link."""

NOW = 10.0

CALLS = 300
"""Calls measured with all of them waiting."""

CASES: dict[str, Callable[[random.Random], float]] = {
    "most too late": lambda chance: chance.random() * NOW,
    "all in time": lambda chance: NOW - 0.1,
    "all too late": lambda chance: 0.0,
}
"""When the visuals that wait were captured; their deadline is 1.5 s."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    print(f"{platform.machine()}, Python {platform.python_version()}, {args.waiting:,} waiting")
    print("milliseconds, P50 / P99    add              next alert       next visual")
    for name, captured_at in CASES.items():
        for fair in (False, True):
            queue = LiveQueue(Bandwidth(RATE), fair=fair)
            print(_line(f"{name}{', fair' * fair}", _measured(queue, captured_at, args.waiting)))
    if args.slow:
        from tests.dat_runtime.planning.slow_queue import SlowQueue

        waiting = min(args.waiting, 2_000)
        slow = _measured(SlowQueue(Bandwidth(RATE)), CASES["most too late"], waiting, calls=20)
        print(_line(f"as first written, {waiting:,}", slow))
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.live_queue", __doc__)
    parser.add_argument("--waiting", type=int, default=20_000, help="events (default 20,000)")
    parser.add_argument("--slow", action="store_true", help="the first version beside it")
    return parser.parse_args(argv)


def _measured(
    queue: LiveQueue,
    captured_at: Callable[[random.Random], float],
    waiting: int,
    calls: int = CALLS,
) -> list[list[float]]:
    """CPU seconds of each `add`, of each alert and of each visual."""
    chance = random.Random(1)
    took: list[list[float]] = [[], [], []]

    def timed(kind: int, call: Callable[[], object]) -> object:
        began = time.thread_time()
        given = call()
        took[kind].append(time.thread_time() - began)
        return given

    def add(name: str, at: float, json_sent: bool) -> None:
        size = chance.randint(5_000, 60_000)
        event = PendingEvent(name, chance.random(), 450, size, None, at, json_sent)
        timed(0, lambda: queue.add(event, f"camera {chance.randrange(50)}"))

    gc.disable()
    for i in range(waiting):
        add(f"waiting {i}", captured_at(chance), json_sent=True)
    for i in range(calls):
        now = NOW + i / 100
        add(f"new {i}", now, json_sent=False)
        alert = timed(1, lambda now=now: queue.next_chunk(now))
        queue.sent(alert, 450 / RATE)
        timed(2, lambda now=now: queue.next_chunk(now))
    gc.enable()
    return took


def _line(name: str, took: Sequence[Sequence[float]]) -> str:
    cells = []
    for times in took:
        ranked = sorted(times)
        p50, p99 = (1e3 * ranked[int(share * (len(ranked) - 1))] for share in (0.5, 0.99))
        cells.append(f"{p50:6.3f} / {p99:6.3f}")
    return f"{name:26} " + "  ".join(cells)


if __name__ == "__main__":
    raise SystemExit(main())
