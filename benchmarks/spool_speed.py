"""The spool's speed beside a bare SQLite group commit in the same run, and its memory over a soak.

    python -m benchmarks.spool_speed [--seconds 4] [--events 50000]

The bare one makes the same bytes durable and does nothing else: no drops, no revisions, no bound.
`python benchmarks/spool_speed.py` is the same.
"""

import argparse
import os
import queue
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# Called by its path, Python looks for modules in benchmarks/ and not in the repository.
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.spool_faults import make_event
from dat_runtime.command import command
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.spool import Spool
from dat_runtime.errors import reports_errors
from dat_runtime.event import Event

# Memory


def soak(folder: Path, events: int) -> list[int]:
    """Resident bytes of this process, ten times while so many events come and go."""
    spool = Spool(folder / "spool.sqlite", 20_000_000, 1_000_000, Counts())
    sizes = []
    for i in range(events):
        id = f"e{i}"
        spool.put(make_event(id, i % 10 / 10, visual_bytes=2000), f"camera{i % 7}")
        # The link is behind: a thousand wait. One in a hundred visuals never goes out.
        past = f"e{i - 1000}"
        spool.acknowledge(past, "json")
        if i % 100:
            spool.acknowledge(past, "roi")
        if (i + 1) % (events // 10) == 0:
            spool.expire()
            sizes.append(resident_bytes())
    spool.close()
    return sizes


def resident_bytes() -> int:
    """What this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# Speed


class BareGroupCommit:
    """The floor: what SQLite takes to make the same bytes durable, with nothing around it."""

    def __init__(self, path: Path):
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE events (id TEXT, json BLOB, visual BLOB)")
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def put(self, event: Event, camera: str) -> None:
        done = threading.Event()
        self._queue.put(((event.id, event.json, event.roi), done))
        done.wait()

    def _write(self) -> None:
        while (work := self._queue.get()) is not None:
            group = [work]
            while len(group) < 64 and not self._queue.empty():
                if (work := self._queue.get()) is None:
                    return
                group.append(work)
            self._db.execute("BEGIN")
            self._db.executemany("INSERT INTO events VALUES (?, ?, ?)", [row for row, _ in group])
            self._db.execute("COMMIT")
            for _, done in group:
                done.set()

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._db.close()


def speed(outbox: Spool | BareGroupCommit, cameras: int, seconds: float) -> tuple[float, ...]:
    """(puts per second, P50 and P99 of one put in ms) with so many cameras at once."""
    waits: list[float] = []
    end = time.perf_counter() + seconds

    def camera(number: int) -> None:
        events = [make_event(f"{number}-{i}") for i in range(20)]
        n = 0
        while time.perf_counter() < end:
            event = events[n % 20]
            # The same pictures under new names: to make them would be what is measured.
            event = replace(event, alert=replace(event.alert, id=f"{number}-{n}"))
            begun = time.perf_counter()
            outbox.put(event, "camera")
            waits.append(time.perf_counter() - begun)
            n += 1

    threads = [threading.Thread(target=camera, args=(n,)) for n in range(cameras)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(waits) / (time.perf_counter() - begun)
    cuts = statistics.quantiles(waits, n=100)
    return rate, 1000 * cuts[49], 1000 * cuts[98]


# The command


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        print("cameras        what   puts/s  P50 ms  P99 ms")
        for cameras in (1, 8, 50):
            for what in ("bare SQLite", "spool"):
                outbox = _outbox(what, folder / f"{what}-{cameras}.sqlite")
                rate, middle, late = speed(outbox, cameras, args.seconds)
                outbox.close()
                print(f"{cameras:7} {what:>11} {rate:8,.0f} {middle:7.2f} {late:7.2f}", flush=True)
        sizes = soak(folder, args.events)
        resident = " ".join(f"{size / 1e6:.1f}" for size in sizes)
        print(f"soak: {args.events:,} events came and went; resident MB: {resident}")
    return 0


def _outbox(what: str, path: Path) -> Spool | BareGroupCommit:
    if what == "spool":
        return Spool(path, 2_000_000_000, 20_000_000, Counts())
    return BareGroupCommit(path)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("benchmarks.spool_speed", __doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row (default 4)")
    parser.add_argument("--events", type=int, default=50_000, help="of the soak (default 50000)")
    parser.add_argument("--folder", help="on the disk to be measured (default: the temporary one)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
