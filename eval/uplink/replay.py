"""One experiment over a replayed link: draw or take events, run every scheme, measure."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from eval.uplink.arrivals import Event, Setting, draw
from eval.uplink.baselines import schemes
from eval.uplink.link import Delivery, Link, Scheme, run_slotted
from eval.uplink.timeliness import COLUMNS, Timeliness, measure, spread

TABLE_3_SCALE = 0.25
"""The bandwidth scale of all blocks of Table 3."""

Job = TypeVar("Job")
Result = TypeVar("Result")


def link_at(rates: Sequence[float], scale: float) -> Link:
    """The link at a scale; `rates` is the window at 1x, bytes per second."""
    return Link([rate * scale for rate in rates])


def rows_of_table_3(setting: Setting) -> list[Scheme]:
    return schemes(setting.trace.mean * TABLE_3_SCALE, **setting.bandwidth_only)


def replay(
    setting: Setting,
    events: Sequence[Event],
    link: Link,
    scheme: Scheme,
    forecast: Callable[[float], float] | None = None,
) -> list[Delivery]:
    """`run_slotted` with the setting's interval and visual deadline."""
    return run_slotted(
        events,
        link,
        scheme,
        interval=setting.interval,
        visual_deadline=setting.visual_deadline,
        forecast=forecast,
    )


def compare(
    setting: Setting,
    rates: Sequence[float],
    pattern: str,
    scale: float,
    seed: int,
    names: Iterable[str] = (),
) -> dict[str, Timeliness]:
    """All schemes (or those named) on the same events over the same link, by name."""
    events, link, wanted = draw(setting, pattern, seed), link_at(rates, scale), set(names)
    return {
        scheme.name: measure(
            replay(setting, events, link, scheme),
            setting.parse,
            visual_deadline=setting.visual_deadline,
        )
        for scheme in rows_of_table_3(setting)
        if not wanted or scheme.name in wanted
    }


def at_deadline(setting: Setting, visual_deadline: float) -> Setting:
    return replace(setting, visual_deadline=visual_deadline)


def averages(
    runs: Sequence[dict[str, Timeliness]], columns: Sequence[str] = COLUMNS
) -> dict[str, dict[str, Any]]:
    """By scheme and column, mean and standard deviation over the runs."""
    return {
        name: {column: spread([getattr(run[name], column) for run in runs]) for column in columns}
        for name in runs[0]
    }


def in_parallel(
    function: Callable[[Job], Result], jobs: Sequence[Job], what: str, workers: int | None = None
) -> list[Result]:
    """`[function(job) for job in jobs]` on all cores, with progress lines on stdout."""
    results: list[Result] = []
    step = max(1, len(jobs) // 4)
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        for number, result in enumerate(pool.map(function, jobs), 1):
            results.append(result)
            if number % step == 0 or number == len(jobs):
                print(f"[transmission] {what} {number}/{len(jobs)}", flush=True)
    return results
