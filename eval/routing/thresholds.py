"""Thresholds for a budget: the band of probabilities in which the MLLM is asked.

The band follows from the price of a call in closed form (`dat_runtime.cascade.cost_band`,
docs/decisions/007-cascade.md). Fitting a budget is therefore a search for one number: the least
price at which the load is within the budget.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dat_runtime.cascade import Band, Budget, Costs, Floats
from dat_runtime.errors import ConfigError
from eval.routing.probabilities import Bools

POLICIES = ("trigger", "band", "entropy")
"""`trigger`: a band without an upper end (DAT). `band`: both ends. `entropy`: equal costs too."""


def reports(policy: str) -> bool:
    """Whether the gate answers sure accidents itself under this policy."""
    return policy != "trigger"


def weights(accident: Bools, share: float | None) -> Floats:
    """Weights (n,), summing to 1, under which a share `share` of the frames shows an accident.

    Prepared sets hold far more accidents than a camera sees, and a load is only meaningful at the
    camera's share. `None` leaves the frames as they are.
    """
    n, positive = len(accident), int(accident.sum())
    if share is None or positive in (0, n):
        return np.full(n, 1 / n)
    return np.where(accident, share / positive, (1 - share) / (n - positive))


def balanced_costs(share: float, mllm_error: float) -> Costs:
    """Costs under which the least expected cost is the highest balanced accuracy.

    Balanced accuracy is 1 - (misses / accidents + false alarms / other frames) / 2. With accidents
    a share `share` of n frames, a miss therefore takes 0.5 / (share · n) off it, and a false alarm
    0.5 / ((1 - share) · n). The costs leave out the n.
    """
    return Costs(0.5 / share, 0.5 / (1 - share), mllm_error)


def benefit(p: Floats, costs: Costs, reports: bool) -> Floats:
    """What a call about each frame is worth: the expected cost without it less that with it.

    Without a call the gate drops the frame (p · miss) or, where it `reports`, reports it
    ((1 - p) · false_alarm), whichever costs less. With a call the same mistakes happen as often as
    the MLLM errs. The band of a price is where the benefit is at least that price.
    """
    dropped = p * costs.miss
    reported = (1 - p) * costs.false_alarm
    alone = np.minimum(dropped, reported) if reports else dropped
    return np.asarray(alone - _mllm_mistakes(p, costs))


def _mllm_mistakes(p: Floats, costs: Costs) -> Floats:
    """The expected cost of the MLLM's mistakes about frames with probabilities p."""
    return np.asarray(costs.mllm_error * (p * costs.miss + (1 - p) * costs.false_alarm))


CONFIDENCE = 0.95
"""Of the bound on missed severe accidents, on frames like the validation frames."""


def low_bound(p: Floats, severe: Bools, missed: float) -> float:
    """The highest lower end that drops at most a share `missed` of severe frames like these.

    A one-sided distribution-free tolerance bound (Wilks 1941): with the lower end at the k-th
    smallest p of n severe frames, more than the share `missed` of new ones lies below it with
    probability P(Bin(n, missed) ≤ k - 1). The largest k is taken for which that is at most
    1 - `CONFIDENCE`. A share of 0 drops nothing.

    Raises:
        ConfigError: too few severe frames for any k; states how many are needed.
    """
    from scipy.stats import binom

    rising = np.sort(p[severe])
    n = len(rising)
    if missed >= 1:
        return 1.0
    risk = binom.cdf(np.arange(n), n, missed)  # of k = 1, ..., n
    k = int((risk <= 1 - CONFIDENCE).sum())
    if missed > 0 and k > 0:
        return float(rising[k - 1])
    if missed == 0 and n:
        return 0.0
    needed = 1
    if missed:
        # k = 1 needs P(Bin(n, missed) = 0) = (1 - missed)^n ≤ 1 - CONFIDENCE.
        needed = int(np.ceil(np.log(1 - CONFIDENCE) / np.log1p(-missed)))
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
    """The budget at the least price of a call with which the MLLM load is at most `load`.

    Args:
        p: calibrated probabilities of n frames.
        weight: of the frames (`weights`).
        may_report: (n,) which frames have a kept detection: without one the gate cannot report.
        load: the budget, a share of frames.
        reports: whether the gate may answer itself.
        low_at_most: see `Budget`.

    Raises:
        ConfigError: the load is higher at any price: because of the bound on the lower end, or
            because the gate would report frames in which it has nothing to report.
    """
    budget = Budget(load, 0.0, costs, low_at_most)

    def load_at(price: float) -> float:
        return float(weight @ asked_about(p, may_report, budget.band(price, reports)))

    # A little more, so that rounding cannot leave a frame in a band that should be empty.
    highest_price = costs.highest_useful_price(reports) * (1 + 1e-9) + 1e-9
    least_load = load_at(highest_price)
    # Half of the lightest frame is more than the rounding of a sum of weights, and less than one
    # frame too many.
    most_load = load + weight.min() / 2
    if least_load > most_load:
        demand = f"a load of {load:.1%} cannot hold"
        options = "Raise --load"
        if low_at_most < 1:
            demand = (
                f"a load of {load:.1%} and the bound on missed severe accidents cannot both hold"
            )
            options = "Raise --load or --missed-severe"
        raise ConfigError(
            f"{demand} on these frames: at least {least_load:.1%} are sent to the MLLM. "
            f"{options}, or train a better gate"
        )
    price = _least_price(lambda price: load_at(price) <= most_load, highest_price)
    return replace(budget, price=price)


def _least_price(holds: Callable[[float], bool], highest_price: float) -> float:
    """The least price from 0 at which the budget holds, by bisection: a higher price, a lower load.

    Args:
        holds: whether the load is within the budget at a price; true at `highest_price`.
    """
    low, high = 0.0, highest_price
    if holds(low):
        return low
    for _ in range(60):  # more halvings than a float has bits
        middle = (low + high) / 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def asked_about(p: Floats, may_report: Bools, band: Band) -> Bools:
    """Which frames the MLLM is asked about: (n,), as `Routing.decide` does it for one frame."""
    reported = np.zeros(len(p), bool)
    if band.high is not None:
        reported = (p >= band.high) & may_report
    return np.asarray((p >= band.low) & ~reported)


def expected_cost(p: Floats, weight: Floats, band: Band, price: float, costs: Costs) -> float:
    """Mean cost of a band over frames whose probabilities are p."""
    dropped = p * costs.miss
    asked = price + _mllm_mistakes(p, costs)
    reported = (1 - p) * costs.false_alarm
    high = np.inf if band.high is None else band.high
    cost = np.where(p < band.low, dropped, asked)
    return float(weight @ np.where(p >= high, reported, cost))


def grid_gap(
    p: Floats, weight: Floats, budget: Budget, reports: bool = True, steps: int = 200
) -> float:
    """How much more the closed-form band costs than a grid's best band, as a share of the latter.

    The grid holds the bands that the budget's bound on the lower end allows.
    """
    price, costs = budget.price, budget.costs
    ours = expected_cost(p, weight, budget.band(price, reports), price, costs)
    grid = np.linspace(0, 1, steps + 1)
    best = np.inf
    for low in grid[grid <= budget.low_at_most]:
        highs = grid[grid >= low] if reports else [None]
        for high in highs:
            best = min(best, expected_cost(p, weight, Band(low, high), price, costs))
    return ours / best - 1 if best > 0 else 0.0
