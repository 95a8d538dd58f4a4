"""Algorithm 1: line by line for few events, on arrays for many, selecting identically.

Codes, which the paper does not know, go between its two stages' units as `planning.codes` says.
Without codes it is the algorithm to the letter.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dat_runtime.planning.codes import Unit, codes_of, density, visuals_of, with_codes
from dat_runtime.planning.pending import (
    EXACT,
    Kind,
    Limits,
    PendingEvent,
    Transmission,
    require_valid,
    score,
)

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

VECTORISED_FROM = 50
"""Number of events from which the vectorised planner is the faster one."""

ROUNDS = 8
"""Times that `_take_in_order` sweeps over the units before it takes the rest one by one."""


def algorithm_1(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
    """The plan of one interval, π_τ of Algorithm 1.

    Raises:
        ValueError: an event has a negative or non-finite number.
    """
    if len(events) < VECTORISED_FROM or codes_of(events):
        return scalar_plan(events, limits)
    return vectorised_plan(events, limits)


def scalar_plan(events: Sequence[PendingEvent], limits: Limits) -> list[Transmission]:
    """Algorithm 1, line by line."""
    require_valid(events)
    if not limits.bandwidth:
        return []
    planned, with_json, sent = json_stage(events, limits)
    # What cannot go first cannot go later. It is left out here, so that it calls no code before it.
    visuals = [v for v in visuals_of(with_json) if _goes(v, sent, limits)]  # lines 13-17
    visuals.sort(key=density, reverse=True)  # line 18
    return planned + sent_in_order(with_codes(codes_of(with_json), visuals), sent, limits)


def sent_in_order(units: Iterable[Unit], sent: int, limits: Limits) -> list[Transmission]:
    """Lines 19-24: those of the units that fit, and are in time, behind `sent` bytes."""
    planned = []
    for unit in units:
        if _goes(unit, sent, limits):
            event, kind, size = unit
            sent += size
            planned.append(Transmission(event.id, kind, size, sent / limits.bandwidth))
    return planned


def _goes(unit: Unit, sent: int, limits: Limits) -> bool:
    """Line 20; a code is never too late."""
    event, kind, size = unit
    total = sent + size
    in_time = kind == "code" or limits.in_time(limits.age(event), total)
    return total <= limits.capacity and in_time


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
            sent = total
            selected[i] = True
            done_at = total / limits.bandwidth
            planned.append(Transmission(events[i].id, "json", events[i].json_bytes, done_at))
    with_json = [event for event, chosen in zip(events, selected, strict=True) if chosen]
    return planned, with_json, sent


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

    waiting = np.flatnonzero(~columns.json_sent)
    order = _by_score(waiting, columns.priority, columns.json_bytes)
    alerts, alert_totals = _take_in_order(order, columns.json_bytes, None, 0.0, limits)
    sent = float(alert_totals[-1]) if alerts.size else 0.0
    has_json = columns.json_sent.copy()
    has_json[alerts] = True

    units = np.flatnonzero(has_json)
    # What cannot go first cannot go later: it is left out of the sort. So is a missing visual: its
    # size is NaN, which compares false.
    units = units[_fits(sent + columns.visual_bytes[units], columns.age[units], limits)]
    order = _by_score(units, columns.priority, columns.visual_bytes)
    visuals, visual_totals = _take_in_order(order, columns.visual_bytes, columns.age, sent, limits)

    json_kinds: list[Kind] = ["json"] * alerts.size
    visual_kinds: list[Kind] = ["roi" if roi else "box" for roi in columns.is_roi[visuals].tolist()]
    return [
        *_transmissions(events, alerts, json_kinds, columns.json_bytes, alert_totals, limits),
        *_transmissions(events, visuals, visual_kinds, columns.visual_bytes, visual_totals, limits),
    ]


def _transmissions(
    events: Sequence[PendingEvent],
    units: Indices,
    kinds: Sequence[Kind],
    sizes: Floats,
    totals: Floats,
    limits: Limits,
) -> list[Transmission]:
    ids = [events[i].id for i in units.tolist()]
    unit_sizes = sizes[units]
    if (unit_sizes == np.floor(unit_sizes)).all():
        unit_sizes = unit_sizes.astype(np.int64)  # whole bytes, as `scalar_plan` gives them
    done_at = (totals / limits.bandwidth).tolist()
    rows = zip(ids, kinds, unit_sizes.tolist(), done_at, strict=True)
    # What a call of `Transmission` does, without the call. A plan of 1,000 events may take 0.056
    # argsorts of 100,000 (benchmarks/plan_speed.py): it takes 0.052 with this, 0.061 with calls.
    new = tuple.__new__
    return [new(Transmission, row) for row in rows]


@dataclass(frozen=True)
class _Columns:
    """The events as arrays, one entry each.

    Attributes:
        visual_bytes: of the cheaper visual; NaN where there is none.
        is_roi: whether that is the ROI.
        age: seconds since capture; 0 without a clock (`Limits.now`).
    """

    priority: Floats
    json_bytes: Floats
    visual_bytes: Floats
    is_roi: Mask
    age: Floats
    json_sent: Mask


def _columns(events: Sequence[PendingEvent], limits: Limits) -> _Columns | None:
    """The events as checked arrays; None when their sizes are too large to add up exactly."""
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

    # One pass over all of them shows whether a number is wrong; `require_valid` then names it.
    numbers = np.concatenate((priority, json_bytes, roi_bytes, box_bytes))
    largest = float(np.fmax.reduce(numbers, initial=0.0))
    not_valid = numbers.size - np.count_nonzero(numbers >= 0)
    if not_valid:  # None became NaN, which compares false, and is allowed
        not_valid -= roi_sizes.count(None) + box_sizes.count(None)
    if not_valid or largest == np.inf or not math.isfinite(sum(captured_at)):
        require_valid(events)
    # All alerts and visuals together stay below what a float holds exactly.
    if largest * len(events) * 2 >= EXACT:
        return None

    visual_bytes = np.fmin(roi_bytes, box_bytes)  # the one that is there, NaN without any
    return _Columns(
        priority=priority,
        json_bytes=json_bytes,
        visual_bytes=visual_bytes,
        is_roi=roi_bytes == visual_bytes,
        age=age,
        json_sent=np.frombuffer(bytes([e.json_sent for e in events]), np.bool_),
    )


def _column(values: Sequence[float | None], code: str) -> Floats:
    """The values as floats, None as NaN.

    An array of one machine type (`code`) reads a list faster than numpy does; what is not all of
    that type goes the slow way.
    """
    try:
        return np.array(array(code, values), np.float64)  # type: ignore[type-var]
    except (TypeError, OverflowError):
        return np.array(array("d", [math.nan if v is None else v for v in values]), np.float64)


def _by_score(units: Indices, priority: Floats, sizes: Floats) -> Indices:
    """The units in descending order of score, equal scores in input order."""
    with np.errstate(divide="ignore", invalid="ignore"):
        negated = -(priority[units] / sizes[units])
    negated[sizes[units] == 0] = -np.inf  # a unit of no bytes costs nothing and comes first
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
    taken = [np.empty(0, np.intp)]
    totals = [np.empty(0)]
    for _ in range(ROUNDS):
        running = np.cumsum(np.concatenate(((sent,), sizes[order])))[1:]
        fitting = _fits(running, _ages_of(order, ages), limits)
        count = order.size if fitting.all() else int(fitting.argmin())
        taken.append(order[:count])
        totals.append(running[:count])
        sent = float(running[count - 1]) if count else sent
        order = order[count + 1 :]
        order = order[_fits(sent + sizes[order], _ages_of(order, ages), limits)]
        if not order.size:
            break
    else:
        rest = _one_by_one(order, sizes, ages, sent, limits)
        taken.append(np.array([i for i, _ in rest], np.intp))
        totals.append(np.array([total for _, total in rest], np.float64))
    return np.concatenate(taken), np.concatenate(totals)


def _ages_of(units: Indices, ages: Floats | None) -> Floats | None:
    return None if ages is None else ages[units]


def _one_by_one(
    order: Indices, sizes: Floats, ages: Floats | None, sent: float, limits: Limits
) -> list[tuple[int, float]]:
    taken = []
    for i in order.tolist():
        total = sent + float(sizes[i])
        in_time = ages is None or limits.in_time(float(ages[i]), total)
        if total <= limits.capacity and in_time:
            sent = total
            taken.append((i, total))
    return taken
