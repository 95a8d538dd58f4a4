"""Work over many files on all cores, in order, in bounded memory, with progress."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_BATCH = 256
_SECONDS_BETWEEN_NOTES = 2.0


def over_all(work: Callable[[Item], Result], items: Sequence[Item], what: str) -> Iterator[Result]:
    """`work` of each item, in the items' order; threads, as Pillow decodes without the GIL."""
    noted = time.monotonic()
    done = 0
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as threads:
        for start in range(0, len(items), _BATCH):
            for result in threads.map(work, items[start : start + _BATCH]):
                yield result
                done += 1
                if time.monotonic() - noted > _SECONDS_BETWEEN_NOTES:
                    noted = time.monotonic()
                    print(f"[data] {what}: {done:,} of {len(items):,}", flush=True)
