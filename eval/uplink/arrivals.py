"""The events of a transmission experiment: drawn from a setting, or read from a run's event log."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dat_runtime.batch import read_batch
from dat_runtime.errors import DataError
from dat_runtime.priority import semantic_priority
from eval.uplink.setting import Arrivals, Priorities, Setting, Spread

FIRST_CAPTURE = 1.0
"""Second of the trace at which the first event of a log is put."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event with everything that a scheme may send of it."""

    id: str
    entered_at: float
    captured_at: float
    priority: float
    json_bytes: int
    roi_bytes: int | None
    """The representative ROI."""
    rois_bytes: int | None
    """All ROIs together."""
    box_bytes: int | None
    camera: str = ""


def draw(setting: Setting, pattern: str, seed: int) -> list[Event]:
    """`setting.events` events in queue order; the same seed gives the same events."""
    # The order of the draws below is part of the result: another order gives other events.
    rng = np.random.default_rng([seed, sorted(setting.arrivals).index(pattern)])
    count = setting.events
    sizes = setting.sizes
    entered = _entries(setting.arrivals[pattern], setting.interval, count, rng)
    captured = entered - rng.uniform(0.0, setting.capture_spread, count)
    box = _lognormal(sizes.box, count, rng)
    roi = box * _lognormal(sizes.roi_of_box, count, rng)
    rois = roi + box * _lognormal(sizes.other_rois_of_box, count, rng)
    json_bytes = _lognormal(sizes.json, count, rng)
    without_roi = rng.random(count) < sizes.without_roi
    priority = _priorities(setting.priority, count, rng)
    return [
        Event(
            id=f"e{i:05d}",
            entered_at=float(entered[i]),
            captured_at=float(captured[i]),
            priority=float(priority[i]),
            json_bytes=_bytes(json_bytes[i]),
            roi_bytes=None if without_roi[i] else _bytes(roi[i]),
            rois_bytes=None if without_roi[i] else _bytes(rois[i]),
            box_bytes=_bytes(box[i]),
        )
        for i in range(count)
    ]


def _entries(
    arrivals: Arrivals, interval: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """(count,): when each event enters the queue, seconds."""
    fewest, most = arrivals.together
    entries: list[float] = []
    at = arrivals.every
    while len(entries) < count:
        tick = math.ceil(at / interval) * interval  # events enter at an interval's start
        entries += [tick] * int(rng.integers(fewest, most + 1))
        at += arrivals.every
    return np.array(entries[:count])


def _lognormal(spread: Spread, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,): log-normal draws of this mean m and coefficient of variation v."""
    mean, cv = spread
    # exp of a normal(mu, s^2) has mean exp(mu + s^2 / 2) and v^2 = exp(s^2) - 1; solved for mu, s.
    variance = math.log1p(cv * cv)
    return rng.lognormal(math.log(mean) - variance / 2, math.sqrt(variance), count)


def _priorities(setting: Priorities, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,): S of Eq. 7, from random levels l and scores r that agree with them (Eq. 4)."""
    severe = rng.random(count) < setting.severe
    low = rng.uniform(setting.lowest, setting.gamma, count)
    high = rng.uniform(setting.gamma, 1.0, count)
    score = np.where(severe, high, low)
    priorities = [
        semantic_priority(int(level), float(r), setting.beta)
        for level, r in zip(severe, score, strict=True)
    ]
    return np.array(priorities)


def level_of_priority(priority: float, beta: float, gamma: float) -> tuple[int, float]:
    """(l, r) of a priority that `draw` gave an event: Eq. 7 backwards, for l in {0, 1}."""
    # S = beta * l + (1 - beta) * r, and r reaches gamma only where l = 1 (Eq. 4).
    level = int(priority >= beta + (1 - beta) * gamma)
    return level, (priority - beta * level) / (1 - beta)


def _bytes(size: float) -> int:
    return max(1, round(size))


def read_events(path: Path) -> list[Event]:
    """The events of a run's log, in order of capture; the first is captured at `FIRST_CAPTURE`.

    The log is what `dat-runtime plan` reads: JSON lines of `id`, `priority`, `json_bytes`,
    `roi_bytes`, `box_bytes` and `captured_at` in seconds. It holds one ROI of an event, which
    counts as all of them.

    Raises:
        DataError: a line is faulty, and the message names it; or there is no event; or one has a
            code, which no run sends.
    """
    logged = sorted(read_batch(path), key=lambda event: event.captured_at)
    if not logged:
        raise DataError("holds no event", path)
    for event in logged:
        if event.code_bytes is not None:
            raise DataError(
                f"event {event.id!r} has a code, and codes are not replayed: leave code_bytes out",
                path,
            )
    shift = FIRST_CAPTURE - logged[0].captured_at
    return [
        Event(
            id=event.id,
            entered_at=event.captured_at + shift,
            captured_at=event.captured_at + shift,
            priority=event.priority,
            json_bytes=event.json_bytes,
            roi_bytes=event.roi_bytes,
            rois_bytes=event.roi_bytes,
            box_bytes=event.box_bytes,
        )
        for event in logged
    ]
