"""Thresholds for a budget: the band of which a stated share of frames is asked about."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dat_runtime.cascade import Band, Budget, Costs, Floats
from dat_runtime.errors import ConfigError
from eval.routing.probabilities import Bools

POLICIES = ("trigger", "band", "entropy")
"""`trigger`: no upper end (DAT). `band`: both ends. `entropy`: both, with equal costs."""


def reports(policy: str) -> bool:
    """Whether the gate answers sure accidents itself under this policy."""
    return policy != "trigger"


def weights(accident: Bools, share: float | None) -> Floats:
    """Weights (n,), summing to 1, under which a share `share` of the frames shows an accident.

    Prepared sets hold far more accidents than a camera sees; a load means something at the
    camera's share only. `None` leaves the frames as they are.
    """
    n, positive = len(accident), int(accident.sum())
    if share is None or positive in (0, n):
        return np.full(n, 1 / n)
    return np.where(accident, share / positive, (1 - share) / (n - positive))


def balanced_costs(share: float, mllm_error: float) -> Costs:
    """Costs under which the least cost is the highest balanced accuracy, at a share of accidents.

    They are in units of a mean frame's mistake.
    """
    return Costs(0.5 / share, 0.5 / (1 - share), mllm_error)


def benefit(p: Floats, costs: Costs, reports: bool) -> Floats:
    """What a call about each frame is worth: the cost without it less the cost with it."""
    alone = np.minimum(p * costs.miss, (1 - p) * costs.false_alarm) if reports else p * costs.miss
    wrong = costs.mllm_error * (p * costs.miss + (1 - p) * costs.false_alarm)
    return np.asarray(alone - wrong)


CONFIDENCE = 0.95
"""With which the bound on missed severe accidents holds on frames like the validation frames."""


def low_bound(p: Floats, severe: Bools, missed: float) -> float:
    """The highest lower end that drops at most a share `missed` of severe frames like these.

    A one-sided tolerance bound: it drops k of the n severe validation frames, k the largest for
    which P(Bin(n, missed) ≤ k) ≤ 1 - `CONFIDENCE`. A share of 0 drops nothing.

    Raises:
        ConfigError: too few severe frames for any k; says how many it takes.
    """
    from scipy.stats import binom

    ordered = np.sort(p[severe])
    n = len(ordered)
    if missed >= 1:
        return 1.0
    allowed = int((binom.cdf(np.arange(n), n, missed) <= 1 - CONFIDENCE).sum())
    if missed > 0 and allowed > 0:
        return float(ordered[allowed - 1])
    if missed == 0 and n:
        return 0.0
    needed = int(np.ceil(np.log(1 - CONFIDENCE) / np.log1p(-missed))) if missed else 1
    raise ConfigError(
        f"{n} validation frames show a severe accident; a bound of {missed:.1%} on missing them "
        f"takes {needed} to hold with {CONFIDENCE:.0%} confidence: add some, allow more misses, or "
        "leave --missed-severe out"
    )


def fit_budget(
    p: Floats,
    weight: Floats,
    may_report: Bools,
    load: float,
    costs: Costs,
    reports: bool,
    low_at_most: float = 1.0,
) -> Budget:
    """The budget at the least price of a call with which at most `load` of the frames are asked
    about.

    Args:
        p: calibrated probabilities of n frames.
        weight: of the frames (`weights`).
        may_report: of the frames, those with a kept detection.
        load: the budget, a share of frames.
        reports: whether the gate may answer itself.
        low_at_most: see `Budget`.

    Raises:
        ConfigError: more are asked about at any price: for the bound on the lower end, or because
            the gate would report frames in which it has nothing to report.
    """

    budget = Budget(load, 0.0, costs, low_at_most)

    def asked(price: float) -> float:
        return float(weight @ asked_about(p, may_report, budget.band(price, reports)))

    dearest = costs.dearest(reports) * (1 + 1e-9) + 1e-9
    least = asked(dearest)
    within = load + weight.min() / 2
    if least > within:
        bound, both, more = "", "", ""
        if low_at_most < 1:
            bound, both = " and the bound on missed severe accidents", "both "
            more = " or --missed-severe"
        raise ConfigError(
            f"a load of {load:.1%}{bound} cannot {both}hold on these frames: {least:.1%} are asked "
            f"about at least. Raise --load{more}, or train a better gate"
        )
    return replace(budget, price=_least_price(lambda price: asked(price) <= within, dearest))


def _least_price(holds: Callable[[float], bool], dearest: float) -> float:
    """The lowest price from 0 on at which the budget holds (the load only falls with it)."""
    low, high = 0.0, dearest
    if holds(low):
        return low
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def asked_about(p: Floats, may_report: Bools, band: Band) -> Bools:
    """Which frames the MLLM is asked about (`Routing.decide`, for many)."""
    sure = np.zeros(len(p), bool) if band.high is None else (p >= band.high) & may_report
    return np.asarray((p >= band.low) & ~sure)


def expected_cost(p: Floats, weight: Floats, band: Band, price: float, costs: Costs) -> float:
    """Mean cost of a band over frames with true probabilities p."""
    high = np.inf if band.high is None else band.high
    ask = price + costs.mllm_error * (p * costs.miss + (1 - p) * costs.false_alarm)
    cost = np.where(p < band.low, p * costs.miss, ask)
    return float(weight @ np.where(p >= high, (1 - p) * costs.false_alarm, cost))


def grid_gap(
    p: Floats, weight: Floats, budget: Budget, reports: bool = True, steps: int = 200
) -> float:
    """By how much, relatively, the closed-form band costs more than the best of a grid.

    The grid holds the bands that the budget's bound on the lower end allows.
    """
    price, costs = budget.price, budget.costs
    ours = expected_cost(p, weight, budget.band(price, reports), price, costs)
    grid = np.linspace(0, 1, steps + 1)
    lows = grid[grid <= budget.low_at_most]
    bands = (Band(a, b) for a in lows for b in (grid[grid >= a] if reports else (None,)))
    best = min(expected_cost(p, weight, band, price, costs) for band in bands)
    return ours / best - 1 if best > 0 else 0.0
