"""Which visuals to send so that the most priority arrives in time, and in what order.

One machine, weights, sizes and deadlines (1 || Σ w_j U_j). A deadline is given as `due`: the number
of bytes, from the interval's start, by which the visual must be through. Everything is a list over
the visuals; a selection is a set of their indices that meets all its deadlines when sent in order
of `due` (EDF), beginning after `sent` bytes.
"""

import bisect
import heapq
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 40
"""Number of visuals up to which the best selection is found exactly."""

INSERTION_UP_TO = 2_000
"""Number of visuals up to which EDF insertion, quadratic in them, is tried."""

MOST_STATES = 200_000
"""Pareto states beyond which the exact search gives up."""


def density(weight: float, size: float) -> float:
    """Weight per byte; a visual of no bytes costs nothing."""
    return weight / size if size else math.inf


def by_density(weights: Sequence[float], sizes: Sequence[float]) -> list[int]:
    """Descending weight per byte, equal ones in input order (lines 16-18 of Algorithm 1)."""
    indices = range(len(sizes))
    return sorted(indices, key=lambda i: density(weights[i], sizes[i]), reverse=True)


def on_time_weight(weights: Sequence[float], chosen: Iterable[int]) -> float:
    return math.fsum(weights[i] for i in chosen)


def best_selection(
    weights: Sequence[float],
    sizes: Sequence[float],
    due: Sequence[float],
    sent: float,
    greedy: Sequence[int],
) -> list[int]:
    """A selection of the most weight that was found, never of less than `greedy`'s.

    Exact for up to `EXACT_UP_TO` visuals (unless the search meets more than `MOST_STATES` Pareto
    states); beyond, the best of `greedy`, EDF insertion and weighted Moore-Hodgson. What still fits
    afterwards is added.
    """
    if len(greedy) == len(sizes):
        return list(greedy)
    candidates = [
        list(greedy),
        moore_hodgson(weights, sizes, due, sent),
        insertion(weights, sizes, due, sent),
    ]
    best = max(candidates, key=lambda chosen: on_time_weight(weights, chosen))
    if len(sizes) <= EXACT_UP_TO:
        best = pareto(weights, sizes, due, sent, best) or best
    return insertion(weights, sizes, due, sent, start=best)


def insertion(
    weights: Sequence[float],
    sizes: Sequence[float],
    due: Sequence[float],
    sent: float,
    start: Sequence[int] = (),
) -> list[int]:
    """EDF insertion: take visuals by weight per byte, each if all taken then meet their deadlines.

    With more than `INSERTION_UP_TO` visuals nothing is added to `start`.
    """
    taken = sorted(start, key=lambda i: due[i])
    used = set(taken)
    dues = [due[i] for i in taken]
    totals: list[float] = []
    total = sent
    for i in taken:
        total += sizes[i]
        totals.append(total)
    latest = max(due, default=0.0)
    candidates = by_density(weights, sizes) if len(sizes) <= INSERTION_UP_TO else []
    for i in candidates:
        size = sizes[i]
        if i in used or total + size > latest:
            continue
        at = bisect.bisect_right(dues, due[i])
        before = totals[at - 1] if at else sent
        if before + size > due[i] or any(
            t + size > d for t, d in zip(totals[at:], dues[at:], strict=True)
        ):
            continue
        taken.insert(at, i)
        dues.insert(at, due[i])
        totals[at:] = [before + size, *(t + size for t in totals[at:])]
        total += size
    return taken


def moore_hodgson(
    weights: Sequence[float], sizes: Sequence[float], due: Sequence[float], sent: float
) -> list[int]:
    """Take visuals in order of deadline; when one is late, give up those of least weight per byte.

    Moore and Hodgson's rule, which is exact for equal weights when the largest is given up.
    """
    taken: list[tuple[float, float, int]] = []
    total = sent
    for i in sorted(range(len(sizes)), key=lambda i: due[i]):
        heapq.heappush(taken, (density(weights[i], sizes[i]), -sizes[i], i))
        total += sizes[i]
        while taken and total > due[i]:
            total += heapq.heappop(taken)[1]
    return [i for _, _, i in taken]


def pareto(
    weights: Sequence[float],
    sizes: Sequence[float],
    due: Sequence[float],
    sent: float,
    incumbent: Sequence[int] = (),
) -> list[int] | None:
    """The selection of the most weight, by dynamic programming over (bytes, weight) pairs.

    Visuals are decided in order of deadline; of two partial selections the one with no fewer bytes
    and no more weight is dropped (Lawler and Moore), as is one that cannot beat the incumbent.
    None when there are more than `MOST_STATES` partial selections left, or none beats it.
    """
    order = sorted(range(len(sizes)), key=lambda i: due[i])
    to_come = [0.0]
    for i in reversed(order):
        to_come.append(to_come[-1] + weights[i])
    to_come.reverse()
    beat = on_time_weight(weights, incumbent)
    totals, gained = np.array([float(sent)]), np.array([0.0])
    steps: list[tuple[NDArray[np.intp], NDArray[np.bool_]]] = []
    for step, i in enumerate(order):
        with_i = np.flatnonzero(totals + sizes[i] <= due[i])
        both = np.concatenate((totals, totals[with_i] + sizes[i]))
        worth = np.concatenate((gained, gained[with_i] + weights[i]))
        parent = np.concatenate((np.arange(totals.size), with_i))
        taken = np.concatenate((np.zeros(totals.size, np.bool_), np.ones(with_i.size, np.bool_)))
        by_total = np.lexsort((-worth, both))
        highest = np.maximum.accumulate(worth[by_total])
        front = np.concatenate(([True], highest[1:] > highest[:-1]))
        keep = by_total[front]
        keep = keep[worth[keep] + to_come[step + 1] * (1 + 1e-12) >= beat]
        if not 0 < keep.size <= MOST_STATES:
            return None
        totals, gained = both[keep], worth[keep]
        steps.append((parent[keep], taken[keep]))
    at = int(gained.argmax())
    chosen = []
    for i, (parent, taken) in zip(reversed(order), reversed(steps), strict=True):
        if taken[at]:
            chosen.append(i)
        at = int(parent[at])
    return chosen if on_time_weight(weights, chosen) > beat else None


def sending_order(
    weights: Sequence[float],
    sizes: Sequence[float],
    due: Sequence[float],
    sent: float,
    chosen: Iterable[int],
) -> list[int]:
    """The selection in an order that meets all deadlines and sends weight per byte early.

    Built from the end (Smith's rule under deadlines): of those that may still be last, the one of
    least weight per byte is.
    """
    by_due = sorted(chosen, key=lambda i: due[i])
    total = sent + sum(sizes[i] for i in by_due)
    may_be_last: list[tuple[float, int]] = []
    backwards: list[int] = []
    while by_due or may_be_last:
        while by_due and due[by_due[-1]] >= total:
            i = by_due.pop()
            heapq.heappush(may_be_last, (density(weights[i], sizes[i]), -i))
        i = -heapq.heappop(may_be_last)[1]
        backwards.append(i)
        total -= sizes[i]
    return backwards[::-1]
