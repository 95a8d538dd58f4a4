"""Running many independent simulations on all cores."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(function: Callable[[Job], Result], jobs: Sequence[Job], what: str) -> list[Result]:
    """`[function(job) for job in jobs]` on all cores, with about four progress lines on stdout."""
    results: list[Result] = []
    step = max(1, len(jobs) // 4)
    with ProcessPoolExecutor() as pool:
        for number, result in enumerate(pool.map(function, jobs), 1):
            results.append(result)
            if number % step == 0 or number == len(jobs):
                print(f"[transmission] {what} {number}/{len(jobs)}", flush=True)
    return results


def over_seeds(
    function: Callable[[Any], Result], cases: Sequence[tuple[Any, ...]], seeds: int, what: str
) -> list[list[Result]]:
    """For each case the results of `function((*case, seed))`, one a seed."""
    jobs = [(*case, seed) for case, seed in itertools.product(cases, range(seeds))]
    results = in_parallel(function, jobs, what)
    return [results[first : first + seeds] for first in range(0, len(jobs), seeds)]
