"""Thresholds that meet a user's wishes, fitted on validation frames and judged on test frames.

Every rate has a nested bootstrap interval: in each resample the MLLM's error, the calibration and
the thresholds are fitted again on resampled validation frames, so an interval covers what the
choice of validation frames does to the thresholds too.
"""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from dat_runtime.cascade import PAPER, Costs, Routing
from dat_runtime.errors import ConfigError, DataError
from eval.routing import probabilities, thresholds
from eval.routing.load_curve import error_of, resampled
from eval.routing.probabilities import Scored
from eval.statistics import bootstrap
from eval.statistics.bootstrap import balanced_accuracy

RESAMPLES = bootstrap.NESTED_RESAMPLES


@dataclass(frozen=True)
class Wanted:
    """What the thresholds have to meet; `None` leaves the choice to the data or to the paper.

    Attributes:
        policy: one of `thresholds.POLICIES`.
        load: the MLLM load, a share of frames.
        missed_severe: the share of severe frames dropped, at most.
        method: of calibration, one of `probabilities.METHODS`.
        mllm_error: the share of frames on which the MLLM is wrong.
        accident_share: the share of frames with an accident that the thresholds are for.
        miss_cost: of a missed accident, in false alarms.
    """

    policy: str = "trigger"
    load: float | None = None
    missed_severe: float | None = None
    method: str | None = None
    mllm_error: float | None = None
    accident_share: float | None = None
    miss_cost: float | None = None

    def share(self, frames: Scored) -> float:
        """The share of accidents that the thresholds are for: as stated, else as in the frames."""
        return self.accident_share or float(frames.accident.mean())

    def costs(self, share: float, error: float) -> Costs:
        """What mistakes cost, at a share of accidents and an error of the MLLM."""
        if self.policy == "entropy":
            return Costs(1.0, 1.0, error)
        if self.miss_cost is not None:
            return Costs(self.miss_cost, 1.0, error)
        return thresholds.balanced_costs(share, error)


def mllm_error(wanted: Wanted, frames: Scored) -> float:
    """How often the MLLM errs: as stated, else as measured on the frames, else never."""
    if wanted.mllm_error is not None:
        return wanted.mllm_error
    if frames.mllm_reports is None:
        return 0.0
    return error_of(frames)


def fitted(keep: float, frames: Scored, method: str, wanted: Wanted, error: float) -> Routing:
    """The routing that meets what is wanted on the frames; the paper's rule without a budget.

    Args:
        keep: the gate's own threshold for a detection (`Routing.keep`).
        method: of calibration.
        error: of the MLLM.

    Raises:
        ConfigError: load and bound cannot both hold.
        DataError: the scores cannot be calibrated (`probabilities.fit`).
    """
    if wanted.load is None:
        return Routing(keep, PAPER)
    share = wanted.share(frames)
    calibration = probabilities.fit(method, frames)
    calibration = probabilities.shifted(calibration, float(frames.accident.mean()), share)
    p = calibration(frames.score, frames.signals)
    low_at_most = 1.0
    if wanted.missed_severe is not None:
        low_at_most = thresholds.low_bound(p, frames.severe, wanted.missed_severe)
    may_report = thresholds.reports(wanted.policy)
    budget = thresholds.fit_budget(
        p,
        thresholds.weights(frames.accident, wanted.accident_share),
        frames.score >= keep,
        wanted.load,
        wanted.costs(share, error),
        may_report,
        low_at_most,
    )
    return Routing(keep, budget.band(budget.price, may_report), calibration, budget)


def grid_gap(routing: Routing, frames: Scored, accident_share: float | None) -> float:
    """`thresholds.grid_gap` of the fitted price."""
    if routing.calibration is None or routing.budget is None:
        raise ValueError("expected a fitted routing")
    p = routing.calibration(frames.score, frames.signals)
    weight = thresholds.weights(frames.accident, accident_share)
    return thresholds.grid_gap(p, weight, routing.budget, routing.band.high is not None)


def calibrated(validation: Scored, test: Scored, method: str) -> dict[str, Any]:
    """How reliable scores and probabilities are: cross-fitted on val, and on test."""
    p_test = probabilities.fit(method, validation)(test.score, test.signals)
    p_validation = probabilities.cross_fitted(method, validation)
    reliability = probabilities.reliability
    return {
        "method": method,
        "val": asdict(reliability(p_validation, validation.accident)),
        "test": asdict(reliability(p_test, test.accident)),
        "test_uncalibrated": asdict(reliability(test.score, test.accident)),
    }


class Rates(NamedTuple):
    """What a routing does with frames; NaN where a rate is undefined.

    Attributes:
        load: share of frames that the MLLM is asked about.
        reported: share of frames that the gate reports by itself.
        report_precision: share of these with an accident.
        missed_severe: share of severe frames that are dropped.
        balanced_accuracy: of the whole cascade.
        gate_alone: balanced accuracy when the MLLM is never asked.
        mllm_alone: balanced accuracy when it is asked about every frame.
    """

    load: float
    reported: float
    report_precision: float
    missed_severe: float
    balanced_accuracy: float
    gate_alone: float
    mllm_alone: float


RATES = Rates._fields


def rates(routing: Routing, frames: Scored, accident_share: float | None) -> Rates:
    """The rates of frames under a routing.

    Load and reports are weighted to the given share of accidents; the other rates do not depend on
    it. `gate_alone` is the gate that reports what costs less to report than to drop; without a
    budget it reports everything that the cascade would ask about.
    """
    p = frames.score
    if routing.calibration is not None:
        p = routing.calibration(frames.score, frames.signals)
    asked = thresholds.asked_about(p, frames.score >= routing.keep, routing.band)
    reported = (p >= routing.band.low) & ~asked

    weight = thresholds.weights(frames.accident, accident_share)
    reported_share = weight @ reported
    report_precision = np.nan
    if reported_share:
        report_precision = weight @ (reported & frames.accident) / reported_share

    severe_count = frames.severe.sum()
    missed_severe = np.nan
    if severe_count:
        dropped = ~asked & ~reported
        missed_severe = (dropped & frames.severe).sum() / severe_count

    reported_from = routing.band.low
    if routing.budget is not None:
        reported_from = routing.budget.costs.indifferent

    cascade = mllm_alone = np.nan
    if frames.mllm_reports is not None:
        answers = np.where(asked, frames.mllm_reports, reported)
        cascade = float(balanced_accuracy(answers, frames.accident))
        mllm_alone = float(balanced_accuracy(frames.mllm_reports, frames.accident))

    return Rates(
        load=float(weight @ asked),
        reported=float(reported_share),
        report_precision=float(report_precision),
        missed_severe=float(missed_severe),
        balanced_accuracy=cascade,
        gate_alone=float(balanced_accuracy(p >= reported_from, frames.accident)),
        mllm_alone=mllm_alone,
    )


def measured(
    routing: Routing, validation: Scored, test: Scored, method: str, wanted: Wanted
) -> dict[str, Any]:
    """The rates on test frames with their nested bootstrap intervals.

    Resamples on which nothing can be fitted (too few frames of a kind, a load that cannot hold) are
    left out of the intervals and counted as `refused`.
    """
    rng = np.random.default_rng(bootstrap.ROUTING_SEED)
    share = wanted.accident_share
    values = rates(routing, test, share)
    drawn: list[Rates] = []
    refused = 0
    for _ in range(RESAMPLES):
        validation_again = resampled(validation, rng)
        error = mllm_error(wanted, validation_again)
        try:
            refitted = fitted(routing.keep, validation_again, method, wanted, error)
        except (ConfigError, DataError):
            refused += 1
            continue
        drawn.append(rates(refitted, resampled(test, rng), share))
    defined = np.flatnonzero(~np.isnan(values))
    # Where every resample was refused, the interval is the value alone.
    samples = np.array(drawn) if drawn else np.array([values])
    lows, highs = bootstrap.bounds(samples[:, defined])
    result: dict[str, Any] = {}
    for i, low, high in zip(defined, lows, highs, strict=True):
        interval = bootstrap.Interval(values[i], float(low), float(high))
        result[RATES[i]] = interval._asdict()
    result["resamples"] = len(drawn)
    result["refused"] = refused
    return result
