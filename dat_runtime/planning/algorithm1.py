"""Algorithm 1: line by line for few events, on arrays for many, selecting identically."""

import gc
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from dat_runtime.planning.pending import (
    EXACT,
    Kind,
    Limits,
    PendingEvent,
    Transmission,
    require_valid,
    score,
    smaller_visual,
)

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

VECTORISED_FROM = 50
"""Number of events from which the vectorised planner is the faster one."""

COLLECTION_MATTERS_FROM = 10_000

ROUNDS = 8


def algorithm_1(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
    if len(events) < VECTORISED_FROM:
        return scalar_plan(events, limits)
    return vectorised_plan(events, limits)


def scalar_plan(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
    """Algorithm 1, line by line."""
    require_valid(events)
    if not limits.bandwidth:
        return []
    planned, with_json, sent = json_stage(events, limits)
    visuals = [(event, *unit) for event in with_json if (unit := smaller_visual(event))]
    visuals.sort(key=lambda visual: score(visual[0].priority, visual[2]), reverse=True)  # line 18
    for event, kind, size in visuals:  # lines 19-24
        total = sent + size
        if total <= limits.capacity and limits.in_time(limits.age(event), total):
            sent = total
            planned.append(Transmission(event.id, kind, size, total / limits.bandwidth))
    return planned


def json_stage(
    events: Sequence[PendingEvent], limits: Limits
) -> tuple[list[Transmission], list[PendingEvent], int]:
    """Lines 3-12: the JSON units, the events whose JSON is or was sent (input order), the bytes."""
    planned: list[Transmission] = []
    selected = [event.json_sent for event in events]
    waiting = [i for i, event in enumerate(events) if not event.json_sent]
    waiting.sort(key=lambda i: score(events[i].priority, events[i].json_bytes), reverse=True)
    sent = 0
    for i in waiting:
        total = sent + events[i].json_bytes
        if total <= limits.capacity:
            sent, selected[i] = total, True
            done_at = total / limits.bandwidth
            planned.append(Transmission(events[i].id, "json", events[i].json_bytes, done_at))
    return planned, [e for e, chosen in zip(events, selected, strict=True) if chosen], sent


def vectorised_plan(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
    """Algorithm 1 on arrays: the same plan as `scalar_plan`, bit for bit."""
    try:
        columns = _columns(events, limits)
    except (TypeError, OverflowError):  # a field that is no number, or none that a float holds
        columns = None
    if columns is None:
        return scalar_plan(events, limits)
    if not limits.bandwidth:
        return []
    priority, json_bytes, visual_bytes, is_roi, age, json_sent = columns

    order = _by_score(np.flatnonzero(~json_sent), priority, json_bytes)
    alerts, alert_totals = _take_in_order(order, json_bytes, None, 0.0, limits)
    sent = float(alert_totals[-1]) if alerts.size else 0.0
    selected = json_sent.copy()
    selected[alerts] = True
    # What cannot go first cannot go later: leave it out of the sort. A missing visual is NaN.
    units = np.flatnonzero(selected)
    units = units[_fits(sent + visual_bytes[units], age[units], limits)]
    order = _by_score(units, priority, visual_bytes)
    visuals, visual_totals = _take_in_order(order, visual_bytes, age, sent, limits)

    alerts_sent = _transmissions(events, alerts, "json", json_bytes, alert_totals, limits)
    visuals_sent = _transmissions(events, visuals, is_roi, visual_bytes, visual_totals, limits)
    return alerts_sent + visuals_sent


def _transmissions(
    events: Sequence[PendingEvent],
    units: Indices,
    kind: Kind | Mask,
    sizes: Floats,
    totals: Floats,
    limits: Limits,
) -> list[Transmission]:
    """The units as transmissions; `kind` is one for all or tells, by event, whether it is a ROI."""
    chosen = units.tolist()
    of_units = sizes[units]
    if (of_units == np.floor(of_units)).all():
        of_units = of_units.astype(np.int64)
    kinds = repeat(kind) if isinstance(kind, str) else np.where(kind[units], "roi", "box").tolist()
    ids: Iterable[str] = (events[i].id for i in chosen)
    if len(chosen) > len(events) // 2:  # in memory order first: scattered reads are the slow part
        ids = map([event.id for event in events].__getitem__, chosen)
    rows = zip(ids, kinds, of_units.tolist(), (totals / limits.bandwidth).tolist(), strict=False)
    with _no_collection(len(chosen)):
        return list(map(tuple.__new__, repeat(Transmission), rows))


@contextmanager
def _no_collection(count: int) -> Iterator[None]:
    """Hold the garbage collector while many tuples are made: it would walk them all, several
    times, to find nothing, for longer than the planning itself takes."""
    if count < COLLECTION_MATTERS_FROM or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


Columns = tuple[Floats, Floats, Floats, Mask, Floats, Mask]


def _columns(events: Sequence[PendingEvent], limits: Limits) -> Columns | None:
    """Checked arrays: priority, JSON and visual bytes, whether the visual is the ROI, age, whether
    the JSON was sent; None when the sizes are too large to add up exactly."""
    priority = _column([e.priority for e in events], "d")
    json_bytes = _column([e.json_bytes for e in events], "q")
    roi_sizes = [e.roi_bytes for e in events]
    box_sizes = [e.box_bytes for e in events]
    roi_bytes = _column(roi_sizes, "q")
    box_bytes = _column(box_sizes, "q")
    captured_at = [e.captured_at for e in events]
    age = np.zeros(len(events))
    if limits.now is not None:
        age = limits.now - _column(captured_at, "d")
    numbers = (priority, json_bytes, roi_bytes, box_bytes)
    highest = max(float(np.fmax.reduce(column, initial=0.0)) for column in numbers)
    absent = 4 * len(events) - sum(np.count_nonzero(column >= 0) for column in numbers)
    if absent:  # None became NaN, which compares false
        absent -= roi_sizes.count(None) + box_sizes.count(None)
    if absent or highest == np.inf or not math.isfinite(sum(captured_at)):
        require_valid(events)
    if highest * len(events) * 2 >= EXACT:
        return None
    visual_bytes = np.fmin(roi_bytes, box_bytes)  # the one that is there, NaN without any
    json_sent = np.frombuffer(bytes([e.json_sent for e in events]), np.bool_)
    return priority, json_bytes, visual_bytes, roi_bytes == visual_bytes, age, json_sent


def _column(values: Sequence[float | None], code: str) -> Floats:
    """The values as floats, None as NaN. An array of one machine type (`code`) reads a list faster
    than numpy does; what is not all of that type goes the slow way."""
    try:
        return np.array(array(code, values), np.float64)  # type: ignore[type-var]
    except (TypeError, OverflowError):
        return np.array(array("d", [math.nan if v is None else v for v in values]), np.float64)


def _by_score(units: Indices, priority: Floats, sizes: Floats) -> Indices:
    """The units in descending order of score, equal scores in input order."""
    with np.errstate(divide="ignore", invalid="ignore"):
        negated = -(priority[units] / sizes[units])
    negated[sizes[units] == 0] = -np.inf
    order = negated.argsort()  # several times faster than a stable sort, which ties alone need
    in_order = negated[order]
    if (in_order[1:] == in_order[:-1]).any():
        order = negated.argsort(kind="stable")
    return units[order]


def _fits(totals: Floats, age: Floats | None, limits: Limits) -> Mask:
    """Lines 8 and 20 on arrays; without ages there is no deadline."""
    fitting: Mask = totals <= limits.capacity
    if age is not None:
        fitting &= age + totals / limits.bandwidth <= limits.visual_deadline
    return fitting


def _take_in_order(
    order: Indices, sizes: Floats, ages: Floats | None, sent: float, limits: Limits
) -> tuple[Indices, Floats]:
    """The loop of lines 7-12 and 19-24: the units taken and the running total after each.

    Each round takes all units before the first that does not fit and then forgets those that no
    longer can; what is left after `ROUNDS` rounds is few or adversarial and goes one by one.
    """
    taken, totals = [np.empty(0, np.intp)], [np.empty(0)]
    for _ in range(ROUNDS):
        running = np.cumsum(np.concatenate(((sent,), sizes[order])))[1:]
        fitting = _fits(running, None if ages is None else ages[order], limits)
        count = order.size if fitting.all() else int(fitting.argmin())
        taken.append(order[:count])
        totals.append(running[:count])
        sent = float(running[count - 1]) if count else sent
        order = order[count + 1 :]
        order = order[_fits(sent + sizes[order], None if ages is None else ages[order], limits)]
        if not order.size:
            break
    else:
        rest = _one_by_one(order, sizes, ages, sent, limits)
        taken.append(np.array([i for i, _ in rest], np.intp))
        totals.append(np.array([total for _, total in rest], np.float64))
    return np.concatenate(taken), np.concatenate(totals)


def _one_by_one(
    order: Indices, sizes: Floats, ages: Floats | None, sent: float, limits: Limits
) -> list[tuple[int, float]]:
    taken = []
    of_ages = repeat(None) if ages is None else ages[order].tolist()
    for i, size, age in zip(order.tolist(), sizes[order].tolist(), of_ages, strict=False):
        total = sent + size
        if total <= limits.capacity and (age is None or limits.in_time(age, total)):
            sent = total
            taken.append((i, total))
    return taken
