"""Which visuals to send so that the most priority arrives in time, and in what order.

The scheduling problem 1 || sum w_j U_j: one machine (the link), jobs (visuals) with a weight
(priority), a processing time (bytes) and a deadline. All is counted in bytes from the interval's
start, so that sums are exact.

Rules that every function here keeps:
    a selection is a list of positions in the jobs, each at most once
    a selection is feasible when it meets all its deadlines if sent in order of deadline (earliest
    deadline first, EDF); if any order does, that one does (Jackson 1955)
    of equal densities the earlier job goes first, as in Algorithm 1
"""

import bisect
import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 40
"""Number of visuals up to which the best selection is searched exactly; `MOST_STATES` bounds it."""

INSERTION_UP_TO = 2_000
"""Number of visuals up to which EDF insertion is tried: its time grows with their square."""

MOST_STATES = 200_000
"""Pareto states beyond which the exact search gives up: 1.6 MB for each of its arrays."""


@dataclass(frozen=True)
class Jobs:
    """The visuals that may be sent, one entry each in every list.

    Attributes:
        weights: priority of each.
        sizes: bytes of each.
        due: bytes from the interval's start by which each must be through.
        sent: bytes that go before all of them: the interval's alerts.
    """

    weights: Sequence[float]
    sizes: Sequence[float]
    due: Sequence[float]
    sent: float

    def __len__(self) -> int:
        return len(self.sizes)

    def density(self, i: int) -> float:
        """Weight per byte of a job; one of no bytes costs nothing."""
        return self.weights[i] / self.sizes[i] if self.sizes[i] else math.inf

    def by_density(self) -> list[int]:
        """All jobs by descending weight per byte (lines 16-18 of Algorithm 1)."""
        return sorted(range(len(self)), key=self.density, reverse=True)

    def by_due(self, chosen: Iterable[int]) -> list[int]:
        """A selection in order of deadline (EDF)."""
        return sorted(chosen, key=lambda i: self.due[i])

    def weight(self, chosen: Iterable[int]) -> float:
        """The weight of a selection, summed without rounding in between."""
        return math.fsum(self.weights[i] for i in chosen)


def best_selection(jobs: Jobs, greedy: Sequence[int]) -> list[int]:
    """The feasible selection of the most weight that was found, never of less than `greedy`'s.

    Exact for up to `EXACT_UP_TO` jobs (unless the search meets more than `MOST_STATES` Pareto
    states); beyond, the best of `greedy`, EDF insertion and weighted Moore-Hodgson. What still fits
    afterwards is added.

    Args:
        greedy: a feasible selection, for one Algorithm 1's.
    """
    if len(greedy) == len(jobs):
        return list(greedy)
    candidates = [list(greedy), moore_hodgson(jobs), insertion(jobs)]
    best = max(candidates, key=jobs.weight)
    if len(jobs) <= EXACT_UP_TO:
        better = pareto(jobs, best)
        if better is not None:
            best = better
    return insertion(jobs, start=best)


def insertion(jobs: Jobs, start: Sequence[int] = ()) -> list[int]:
    """EDF insertion: take jobs by weight per byte, each if all taken then meet their deadlines.

    With more than `INSERTION_UP_TO` jobs nothing is added to `start`.
    """
    taken = jobs.by_due(start)
    if len(jobs) > INSERTION_UP_TO:
        return taken
    dues = [jobs.due[i] for i in taken]
    totals: list[float] = []  # bytes sent when each of the taken is through
    total = jobs.sent
    for i in taken:
        total += jobs.sizes[i]
        totals.append(total)
    latest = max(jobs.due, default=0.0)
    used = set(taken)
    for i in jobs.by_density():
        size, due = jobs.sizes[i], jobs.due[i]
        if i in used or total + size > latest:
            continue
        at = bisect.bisect_right(dues, due)
        before = totals[at - 1] if at else jobs.sent
        later = [t + size for t in totals[at:]]  # what follows is through `size` bytes later
        in_time = all(t <= d for t, d in zip(later, dues[at:], strict=True))
        if before + size > due or not in_time:
            continue
        taken.insert(at, i)
        dues.insert(at, due)
        totals[at:] = [before + size, *later]
        total += size
    return taken


def moore_hodgson(jobs: Jobs) -> list[int]:
    """Take jobs in order of deadline; when one is late, give up those of least weight per byte.

    Moore and Hodgson's rule (Moore 1968) gives up the largest, which is exact for equal weights;
    by weight per byte it is a good rule for any.
    """
    taken: list[tuple[float, float, int]] = []  # a heap: least density first, then the largest
    total = jobs.sent
    for i in jobs.by_due(range(len(jobs))):
        heapq.heappush(taken, (jobs.density(i), -jobs.sizes[i], i))
        total += jobs.sizes[i]
        while taken and total > jobs.due[i]:
            _, minus_size, _ = heapq.heappop(taken)
            total += minus_size
    return [i for _, _, i in taken]


def pareto(jobs: Jobs, incumbent: Sequence[int] = ()) -> list[int] | None:
    """The selection of the most weight, by dynamic programming over (bytes, weight) pairs.

    Jobs are decided in order of deadline. A state is a partial selection, kept as its bytes and its
    weight; of two states the one with no fewer bytes and no more weight is dropped (Lawler and
    Moore 1969), and so is one that cannot beat the incumbent even with all that is to come.

    Returns:
        None when more than `MOST_STATES` states are left after a step, or none beats the incumbent.
    """
    order = jobs.by_due(range(len(jobs)))
    to_beat = jobs.weight(incumbent)
    to_come = _weight_after(jobs, order)
    totals = np.array([float(jobs.sent)])
    weights = np.array([0.0])
    steps: list[tuple[NDArray[np.intp], NDArray[np.bool_]]] = []
    for step, i in enumerate(order):
        # Every state goes on without the job, and with it where that is in time.
        can_take = np.flatnonzero(totals + jobs.sizes[i] <= jobs.due[i])
        both_totals = np.concatenate((totals, totals[can_take] + jobs.sizes[i]))
        both_weights = np.concatenate((weights, weights[can_take] + jobs.weights[i]))
        parent = np.concatenate((np.arange(totals.size), can_take))
        took = np.arange(both_totals.size) >= totals.size

        # Fewest bytes first, of equal ones the heaviest: a state is kept that weighs more than all
        # before it.
        by_total = np.lexsort((-both_weights, both_totals))
        heaviest = np.maximum.accumulate(both_weights[by_total])
        is_new = np.concatenate(([True], heaviest[1:] > heaviest[:-1]))
        kept = by_total[is_new]
        # A hair more than is to come, lest rounding drops the very best.
        reachable = both_weights[kept] + to_come[step] * (1 + 1e-12)
        kept = kept[reachable >= to_beat]
        if not 0 < kept.size <= MOST_STATES:
            return None
        totals, weights = both_totals[kept], both_weights[kept]
        steps.append((parent[kept], took[kept]))

    # Back from the heaviest state, step by step, along its parents.
    state = int(weights.argmax())
    chosen = []
    for i, (parent, took) in zip(reversed(order), reversed(steps), strict=True):
        if took[state]:
            chosen.append(i)
        state = int(parent[state])
    return chosen if jobs.weight(chosen) > to_beat else None


def _weight_after(jobs: Jobs, order: Sequence[int]) -> list[float]:
    """For each step of `order` the weight of all jobs after it."""
    after = []
    total = 0.0
    for i in reversed(order):
        after.append(total)
        total += jobs.weights[i]
    return after[::-1]


def sending_order(jobs: Jobs, chosen: Iterable[int]) -> list[int]:
    """The selection in an order that meets all deadlines and sends weight per byte early.

    Built from the end (Smith's rule under deadlines, Smith 1956): of those that may still be last,
    the one of least weight per byte is.
    """
    by_due = jobs.by_due(chosen)
    total = jobs.sent + sum(jobs.sizes[i] for i in by_due)
    may_be_last: list[tuple[float, int]] = []  # a heap: least density first, then the latest job
    backwards: list[int] = []
    while by_due or may_be_last:
        while by_due and jobs.due[by_due[-1]] >= total:
            i = by_due.pop()
            heapq.heappush(may_be_last, (jobs.density(i), -i))
        _, minus_i = heapq.heappop(may_be_last)
        backwards.append(-minus_i)
        total -= jobs.sizes[-minus_i]
    return backwards[::-1]
