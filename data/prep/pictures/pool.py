"""Work over many items on all cores or on a Ray cluster: in order, in bounded memory, with progress
messages."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

from dat_runtime.errors import ConfigError

Engine = Literal["threads", "ray"]
ENGINES: tuple[Engine, ...] = ("threads", "ray")

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_THREADS = 16
_BATCH = 256
"""Items given to the threads at once; their results are in memory until they are taken."""
_RAY_BATCH = 64
"""Items of one Ray task: with a single item, sending it would cost more than the work."""
_SECONDS_BETWEEN_NOTES = 2.0


def over_all(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, engine: Engine = "threads"
) -> Iterator[Result]:
    """`work` of each item, in the items' order.

    Threads serve one machine, as Pillow and NumPy compute without the interpreter's lock. Ray
    serves a cluster (the one that RAY_ADDRESS names, else its own on this machine); `work` must
    then be a function of a module, and sources and outputs on storage that all machines share.
    """
    results = _on_ray(work, items) if engine == "ray" else _on_threads(work, items)
    last_note = time.monotonic()
    for done, result in enumerate(results, start=1):
        yield result
        if time.monotonic() - last_note > _SECONDS_BETWEEN_NOTES:
            last_note = time.monotonic()
            print(f"[data] {what}: {done:,} of {len(items):,}", flush=True)


def _on_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    threads = ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS))
    try:
        for start in range(0, len(items), _BATCH):
            yield from threads.map(work, items[start : start + _BATCH])
    finally:
        # After an error or Ctrl-C, nobody waits for the rest of the batch.
        threads.shutdown(cancel_futures=True)


def _on_ray(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--engine ray needs Ray: install requirements/ray.txt, or leave --engine out"
        ) from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    @ray.remote
    def batch(work: Callable[[Item], Result], part: Sequence[Item]) -> list[Result]:
        return [work(item) for item in part]

    # Sent once, as `work` may be large: it can hold the pictures of an earlier build.
    shared_work = ray.put(work)
    # Two tasks a core keep every core busy; the results of more would pile up in memory.
    most_running = 2 * int(ray.cluster_resources().get("CPU", 1))
    running: deque[ray.ObjectRef] = deque()
    for start in range(0, len(items), _RAY_BATCH):
        running.append(batch.remote(shared_work, items[start : start + _RAY_BATCH]))
        if len(running) >= most_running:
            yield from ray.get(running.popleft())  # the oldest first, which keeps the order
    while running:
        yield from ray.get(running.popleft())
