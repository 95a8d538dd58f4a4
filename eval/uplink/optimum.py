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

import numpy as np

from eval.uplink.arrivals import Event
from eval.uplink.link import Link


def least_weighted_alarm(priorities: Sequence[float], sizes: Sequence[float]) -> float:
    """min over all orders of Σ S_i · (bytes until unit i is through): the first objective of Eq. 12
    when all JSON fits, times B. For N <= 8."""
    return min(
        weighted_alarm([(priorities[i], sizes[i]) for i in order])
        for order in itertools.permutations(range(len(sizes)))
    )


def weighted_alarm(in_order: Sequence[tuple[float, float]]) -> float:
    """Σ S · bytes until through, of (S, bytes) in sending order."""
    total = alarm = 0.0
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
    indices = range(len(sizes))
    return max(
        math.fsum(weights[i] for i in chosen)
        for count in range(len(sizes) + 1)
        for chosen in itertools.combinations(indices, count)
        if feasible(sizes, due, sent, chosen)
    )


def best_by_milp(
    weights: Sequence[float], sizes: Sequence[float], due: Sequence[float], sent: float = 0.0
) -> float:
    """The same as a mixed-integer program: in order of deadline, every prefix is through in time.

    A prefix's bound holds whether or not its last visual is chosen, since deadlines only grow.
    """
    order = [
        i for i in sorted(range(len(sizes)), key=lambda i: due[i]) if sent + sizes[i] <= due[i]
    ]
    if not order:
        return 0.0
    size = np.array([sizes[i] for i in order], float)
    weight = np.array([weights[i] for i in order])
    room = np.array([due[i] - sent for i in order], float)
    found = _maximise(weight, np.tril(np.ones((len(order),) * 2)) * size, room)
    chosen = [i for i, z in zip(order, found, strict=True) if z > 0.5]
    return math.fsum(weights[i] for i in chosen)


def _maximise(weight: np.ndarray, rows: np.ndarray, room: np.ndarray) -> np.ndarray:
    """z in {0, 1} that maximises weight · z under rows · z <= room, to the end (no gap left)."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    with _silent_stdout():
        found = milp(
            -weight,
            constraints=LinearConstraint(rows, ub=room),
            integrality=1,
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0},
        )
    if not found.success:
        raise RuntimeError(f"HiGHS did not solve the program: {found.message}")
    return np.round(found.x)


@contextlib.contextmanager
def _silent_stdout() -> Iterator[None]:
    """HiGHS prints a line of its own past Python's stdout; drop it."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def smallest_visual(event: Event) -> int | None:
    return min((c for c in (event.roi_bytes, event.box_bytes) if c is not None), default=None)


def vtr_bound(events: Sequence[Event], link: Link, within: float) -> float:
    """No scheduler, even one that knows all to come, brings more visuals (percent of all events)
    within so many seconds of capture: alerts cost nothing, visuals may be cut anywhere.

    A set is feasible when, for each pair of a capture and a deadline, the visuals inside need no
    more bytes than the link carries between the two.
    """
    jobs = sorted(
        (e.captured_at, e.captured_at + within, size)
        for e in events
        if (size := smallest_visual(e)) is not None
    )
    on_time = sum(_most_on_time(cluster, link) for cluster in _clusters(jobs))
    return 100 * on_time / len(events)


Job = tuple[float, float, int]


def _clusters(jobs: Sequence[Job]) -> list[list[Job]]:
    """Runs of jobs whose time windows overlap: each can be decided on its own."""
    clusters: list[list[Job]] = []
    end = -math.inf
    for job in jobs:
        if job[0] >= end:
            clusters.append([])
        clusters[-1].append(job)
        end = max(end, job[1])
    return clusters


def _most_on_time(jobs: Sequence[Job], link: Link) -> int:
    starts, ends = sorted({j[0] for j in jobs}), sorted({j[1] for j in jobs})
    carried = {t: link.carried(t) for t in (*starts, *ends)}
    rows, room = [], []
    for start, end in itertools.product(starts, ends):
        if end <= start:
            continue
        row = [size if start <= a and b <= end else 0 for a, b, size in jobs]
        capacity = carried[end] - carried[start]
        if sum(row) > capacity:
            rows.append(row)
            room.append(capacity)
    if not rows:
        return len(jobs)
    room_with_rounding = np.array(room) * (1 + 1e-9)
    return int(_maximise(np.ones(len(jobs)), np.array(rows, float), room_with_rounding).sum())


def least_mean_delay(events: Sequence[Event], link: Link) -> float:
    """No scheduler that delivers every visual has a smaller mean delay from capture, seconds:
    shortest remaining size first, alerts for nothing."""
    jobs = sorted((e.captured_at, size) for e in events if (size := smallest_visual(e)) is not None)
    waiting: list[tuple[float, float]] = []
    now, coming, delays = 0.0, 0, 0.0
    while coming < len(jobs) or waiting:
        if not waiting:
            now = max(now, jobs[coming][0])
        while coming < len(jobs) and jobs[coming][0] <= now:
            heapq.heappush(waiting, (jobs[coming][1], jobs[coming][0]))
            coming += 1
        left, captured = heapq.heappop(waiting)
        done = link.finish(now, left)
        if coming < len(jobs) and jobs[coming][0] < done:
            until = jobs[coming][0]
            heapq.heappush(waiting, (left - (link.carried(until) - link.carried(now)), captured))
            now = until
            continue
        now = done
        delays += done - captured
    return delays / len(jobs)
