"""References that the planners are measured against: exact optima and clairvoyant bounds.

Small instances by enumeration, larger ones as mixed-integer programs (SciPy's HiGHS).
"""

import contextlib
import heapq
import itertools
import math
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from eval.uplink.arrivals import Event
from eval.uplink.link import Link


def least_weighted_alarm(priorities: Sequence[float], sizes: Sequence[float]) -> float:
    """The least Σ S_i · (bytes until unit i is sent) of all orders: B times the first objective of
    Eq. 12, when all JSON fits. For N <= 8."""
    units = list(zip(priorities, sizes, strict=True))
    return min(weighted_alarm(order) for order in itertools.permutations(units))


def weighted_alarm(in_order: Sequence[tuple[float, float]]) -> float:
    """Σ S · bytes until sent, of (S, bytes) in sending order."""
    total = 0.0
    alarm = 0.0
    for priority, size in in_order:
        total += size
        alarm += priority * total
    return alarm


def feasible(
    sizes: Sequence[float], due: Sequence[float], sent: float, chosen: Sequence[int]
) -> bool:
    """Whether the chosen visuals meet their deadlines in order of deadline (EDF decides it)."""
    total = sent
    for i in sorted(chosen, key=lambda i: due[i]):
        total += sizes[i]
        if total > due[i]:
            return False
    return True


def best_by_enumeration(
    weights: Sequence[float], sizes: Sequence[float], due: Sequence[float], sent: float = 0.0
) -> float:
    """The most weight of any selection that meets its deadlines. For N <= 16."""
    best = 0.0
    for count in range(1, len(sizes) + 1):
        for chosen in itertools.combinations(range(len(sizes)), count):
            if feasible(sizes, due, sent, chosen):
                best = max(best, math.fsum(weights[i] for i in chosen))
    return best


def best_by_milp(
    weights: Sequence[float], sizes: Sequence[float], due: Sequence[float], sent: float = 0.0
) -> float:
    """The same as a mixed-integer program: in order of deadline, every prefix is sent in time.

    A prefix's bound holds whether or not its last visual is chosen, since deadlines only grow.
    """
    by_deadline = sorted(range(len(sizes)), key=lambda i: due[i])
    order = [i for i in by_deadline if sent + sizes[i] <= due[i]]  # the others are late in any case
    if not order:
        return 0.0
    weight = np.array([weights[i] for i in order])
    size = np.array([sizes[i] for i in order], float)
    room = np.array([due[i] - sent for i in order], float)
    prefixes = np.tril(np.ones((len(order), len(order)))) * size  # row k: the sizes up to visual k
    selection = _maximise(weight, prefixes, room)
    chosen = [i for i, z in zip(order, selection, strict=True) if z > 0.5]
    return math.fsum(weights[i] for i in chosen)


def _maximise(weight: np.ndarray, rows: np.ndarray, room: np.ndarray) -> np.ndarray:
    """(N,): z in {0, 1} that maximises weight · z under rows · z <= room, solved to the end."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    with _silent_stdout():
        solution = milp(
            -weight,  # milp minimises
            constraints=LinearConstraint(rows, ub=room),
            integrality=1,
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0},  # by default HiGHS stops within 0.01 % of the optimum
        )
    if not solution.success:
        raise RuntimeError(f"HiGHS did not solve the program: {solution.message}")
    return np.round(solution.x)


@contextlib.contextmanager
def _silent_stdout() -> Iterator[None]:
    """Drop the line that HiGHS prints, which does not pass through Python's stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


class Job(NamedTuple):
    """A visual that is to be sent between two times. Seconds and bytes."""

    start: float
    end: float
    size: int
    weight: float = 1.0


def vtr_bound(events: Sequence[Event], link: Link, within: float) -> float:
    """The most visuals (percent of all events) that can arrive within `within` seconds of capture.

    No scheduler delivers more, even if it knows the whole future: here alerts cost nothing, and
    visuals may be cut anywhere.

    A set is feasible when, for each pair of a capture and a deadline, the visuals inside need no
    more bytes than the link carries between the two.
    """
    on_time = _most_in_time(_jobs(events, within, [1.0] * len(events)), link)
    return 100 * on_time / len(events)


def priority_bound(events: Sequence[Event], link: Link, within: float) -> float:
    """The most priority (percent of all) whose visuals can arrive so; as `vtr_bound` otherwise."""
    priorities = [event.priority for event in events]
    return 100 * _most_in_time(_jobs(events, within, priorities), link) / math.fsum(priorities)


def _jobs(events: Sequence[Event], within: float, weights: Sequence[float]) -> list[Job]:
    jobs = []
    for event, weight in zip(events, weights, strict=True):
        size = smallest_visual(event)
        if size is not None:
            jobs.append(Job(event.captured_at, event.captured_at + within, size, weight))
    return sorted(jobs)


def _most_in_time(jobs: Sequence[Job], link: Link) -> float:
    return math.fsum(_most_of_cluster(cluster, link) for cluster in _clusters(jobs))


def smallest_visual(event: Event) -> int | None:
    """Bytes of the smaller of ROI and boxed image; None when the event has neither."""
    sizes = [size for size in (event.roi_bytes, event.box_bytes) if size is not None]
    return min(sizes, default=None)


def _clusters(jobs: Sequence[Job]) -> list[list[Job]]:
    """Runs of jobs whose time windows overlap: each can be decided on its own."""
    clusters: list[list[Job]] = []
    end = -math.inf
    for job in jobs:
        if job.start >= end:
            clusters.append([])
        clusters[-1].append(job)
        end = max(end, job.end)
    return clusters


def _most_of_cluster(jobs: Sequence[Job], link: Link) -> float:
    """The most weight of jobs that the link can carry, each within its own time window."""
    starts = sorted({job.start for job in jobs})
    ends = sorted({job.end for job in jobs})
    rows: list[list[int]] = []
    room: list[float] = []
    for start, end in itertools.product(starts, ends):
        if end <= start:
            continue
        row = [job.size if start <= job.start and job.end <= end else 0 for job in jobs]
        capacity = link.carried(end) - link.carried(start)
        if sum(row) > capacity:  # else all of them fit and nothing has to be chosen
            rows.append(row)
            room.append(capacity)
    weights = np.array([job.weight for job in jobs])
    if not rows:
        return float(weights.sum())
    # A visual that fits to the last byte must not fail by rounding: a bound may only be too high.
    room_with_rounding = np.array(room) * (1 + 1e-9)
    selection = _maximise(weights, np.array(rows, float), room_with_rounding)
    return float(weights @ selection)


def least_mean_delay(events: Sequence[Event], link: Link) -> float:
    """The least mean delay from capture, in seconds, of any scheduler that delivers every visual.

    Shortest remaining size first; alerts cost nothing.
    """
    jobs: list[tuple[float, int]] = []  # (captured at, bytes), in order of capture
    for event in events:
        size = smallest_visual(event)
        if size is not None:
            jobs.append((event.captured_at, size))
    jobs.sort()
    waiting: list[tuple[float, float]] = []  # a heap of (bytes left, captured at)
    now = 0.0
    coming = 0
    delays = 0.0
    while coming < len(jobs) or waiting:
        if not waiting:
            now = max(now, jobs[coming][0])
        while coming < len(jobs) and jobs[coming][0] <= now:
            captured, size = jobs[coming]
            heapq.heappush(waiting, (size, captured))
            coming += 1
        left, captured = heapq.heappop(waiting)
        done = link.finish(now, left)
        if coming < len(jobs) and jobs[coming][0] < done:
            # Meanwhile another visual is captured, which may be shorter than the rest of this one.
            until = jobs[coming][0]
            left -= link.carried(until) - link.carried(now)
            heapq.heappush(waiting, (left, captured))
            now = until
        else:
            now = done
            delays += done - captured
    return delays / len(jobs)
