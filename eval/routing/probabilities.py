"""From the gate's scores to probabilities: fitted on validation frames, judged on others.

The methods, each a map from the score's log-odds to those of an accident (`dat_runtime.cascade`):

    platt        weight and bias, by logistic regression (Platt 1999, "Probabilistic outputs for
                 support vector machines"); with signals one weight more for each (late fusion)
    temperature  the weight alone: 1 / T of Guo et al. 2017, "On calibration of modern neural
                 networks", section 4.2
    isotonic     any rising map, by pool-adjacent-violators (Zadrozny and Elkan 2002, "Transforming
                 classifier scores into accurate multiclass probability estimates")
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dat_runtime.cascade import (
    FLOOR,
    Calibration,
    Floats,
    Isotonic,
    Logistic,
    Signal,
    logit,
)
from dat_runtime.errors import DataError
from eval.statistics.bootstrap import ROUTING_SEED

Bools = NDArray[np.bool_]

METHODS = ("platt", "temperature", "isotonic")
FOLDS = 5
MIN_PER_KIND = 10
"""Frames with an accident, and frames without one, that a fit needs at least."""

NOT_RISING = (
    "the gate's scores do not rise with accidents: train the gate longer before thresholds are "
    "fitted"
)
BINS = 10
MIN_PER_BIN = 15
"""Frames that a bin holds at least; fewer than `BINS` times as many frames make fewer bins."""

SIMULATED = 500
"""Sets of labels whose mean ECE is `Reliability.expected`."""


@dataclass(frozen=True)
class Scored:
    """The gate's scores, further signals and the MLLM's verdicts of n frames, beside the truth.

    Attributes:
        score: (n,) s_t of Eq. 1.
        accident, severe: (n,) whether the labels hold one.
        signals: further scores in [0, 1] by name, (n,) each; NaN where missing.
        mllm_reports: (n,) whether the MLLM reports an accident; `None` where it was not asked. A
            failed answer counts as the wrong one.
        failed: how many of the MLLM's answers failed or are missing.
    """

    score: Floats
    accident: Bools
    severe: Bools
    signals: Mapping[str, Floats]
    mllm_reports: Bools | None = None
    failed: int = 0

    def __len__(self) -> int:
        return len(self.score)

    def take(self, index: Any) -> "Scored":
        """Some of the frames, by index or mask; `failed` is not known of them and is 0."""
        mllm_reports = self.mllm_reports
        if mllm_reports is not None:
            mllm_reports = mllm_reports[index]
        return Scored(
            self.score[index],
            self.accident[index],
            self.severe[index],
            {name: values[index] for name, values in self.signals.items()},
            mllm_reports,
        )


def fit(method: str, frames: Scored) -> Calibration:
    """A calibration of the frames' scores by one of `METHODS`; only Platt's takes signals.

    Raises:
        DataError: too few frames of a kind, or scores that do not rise with accidents.
    """
    _demand_frames(frames, MIN_PER_KIND)
    odds = logit(frames.score)
    if odds[frames.accident].mean() <= odds[~frames.accident].mean():
        raise DataError(NOT_RISING)
    if method == "isotonic":
        return _isotonic(frames)
    if method == "platt":
        return _platt(frames)
    return _temperature(frames)


def _demand_frames(frames: Scored, of_each_kind: int) -> None:
    positive = int(frames.accident.sum())
    if min(positive, len(frames) - positive) < of_each_kind:
        raise DataError(
            f"{positive} of {len(frames)} frames show an accident: a calibration needs at least "
            f"{of_each_kind} with and {of_each_kind} without"
        )


def _platt(frames: Scored) -> Logistic:
    """Logistic regression on log-odds: of the score, and two columns for each signal.

    A signal's columns are its log-odds, 0 where it is missing, and whether it is missing. So the
    fit says what a signal is worth, and what its absence means.
    """
    from sklearn.linear_model import LogisticRegression

    columns = [logit(frames.score)]
    for values in frames.signals.values():
        is_missing = np.isnan(values)
        columns.append(np.where(is_missing, 0, logit(np.where(is_missing, 0.5, values))))
        columns.append(is_missing)
    # C=100 penalises the weights hardly at all: just enough to keep them finite where the scores
    # separate the two kinds of frames perfectly.
    model = LogisticRegression(C=100.0, max_iter=1000)
    model.fit(np.column_stack(columns), frames.accident)
    weights = [float(weight) for weight in model.coef_[0]]
    if weights[0] <= 0:
        raise DataError(NOT_RISING)
    signals = {}
    for i, name in enumerate(frames.signals):
        signals[name] = Signal(weight=weights[1 + 2 * i], missing=weights[2 + 2 * i])
    fused = Logistic(weights[0], float(model.intercept_[0]), signals)
    for name, values in frames.signals.items():
        # The column of a signal that is never missing is all zeros: the fit says nothing about its
        # absence.
        if not np.isnan(values).any():
            signals[name] = replace(signals[name], missing=_silence(fused, name, frames))
    return replace(fused, signals=signals)


def _silence(fused: Logistic, name: str, frames: Scored) -> float:
    """The log-odds to add in place of a signal that was never missing: p is right on average."""
    from scipy.optimize import brentq
    from scipy.special import expit

    others = {other: values for other, values in frames.signals.items() if other != name}
    odds = logit(fused(frames.score, others))
    share = float(frames.accident.mean())

    def excess(added: float) -> float:
        return float(np.mean(expit(odds + added)) - share)

    # `logit` keeps the odds within about 5.3 of 0, so at -50 and 50 every p is next to 0 or 1.
    return float(brentq(excess, -50, 50))


def _temperature(frames: Scored) -> Logistic:
    """The weight of least log loss; its logarithm is searched, so that it stays positive."""
    from scipy.optimize import minimize_scalar

    def loss(log_weight: float) -> float:
        calibration = Logistic(float(np.exp(log_weight)))
        return log_loss(calibration(frames.score, {}), frames.accident)

    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded")
    return Logistic(float(np.exp(best.x)))


def _isotonic(frames: Scored) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression

    # The ends of a rising fit are often all accidents or none, where p would be 1 or 0 and its
    # log-odds infinite.
    model = IsotonicRegression(y_min=FLOOR, y_max=1 - FLOOR, out_of_bounds="clip")
    model.fit(frames.score, frames.accident)
    scores, values = model.X_thresholds_.tolist(), model.y_thresholds_.tolist()
    return Isotonic(tuple(scores), tuple(values))


def shifted(calibration: Calibration, from_share: float, to_share: float) -> Calibration:
    """The calibration for frames with another share of accidents (prior shift).

    By Bayes' rule the odds of an accident are multiplied by the ratio of the two shares' odds, so
    log-odds move by a constant (Saerens et al. 2002, "Adjusting the outputs of a classifier to new
    a priori probabilities"). Accidents must look the same as before, only be rarer or more common.
    """
    from scipy import special

    move = float(special.logit(to_share) - special.logit(from_share))
    if isinstance(calibration, Logistic):
        return replace(calibration, bias=calibration.bias + move)
    if isinstance(calibration, Isotonic):
        moved = special.expit(special.logit(calibration.probabilities) + move)
        return replace(calibration, probabilities=tuple(moved.tolist()))
    raise TypeError(f"cannot shift a {type(calibration).__name__}")


def log_loss(p: Floats, accident: Bools) -> float:
    """Mean negative log-likelihood of the labels, nats."""
    inside = np.clip(p, 1e-12, 1 - 1e-12)  # one label against p = 0 or 1 would make it infinite
    return float(-np.where(accident, np.log(inside), np.log1p(-inside)).mean())


def cross_fitted(method: str, frames: Scored) -> Floats:
    """Probabilities of each frame by a calibration that was fitted without it: (n,).

    Raises:
        DataError: as `fit`, on all folds but one.
    """
    from sklearn.model_selection import StratifiedKFold

    # A fit sees all folds but one, and these must still hold `MIN_PER_KIND` frames of each kind.
    _demand_frames(frames, math.ceil(MIN_PER_KIND * FOLDS / (FOLDS - 1)))
    p = np.empty(len(frames))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=ROUTING_SEED)
    for fitted_on, held_out in folds.split(frames.score, frames.accident):
        calibration = fit(method, frames.take(fitted_on))
        others = frames.take(held_out)
        p[held_out] = calibration(others.score, others.signals)
    return p


def choose(frames: Scored) -> str:
    """The method of least cross-fitted log loss; with signals Platt's, the only one that fuses."""
    if frames.signals:
        return "platt"
    losses = {}
    for method in METHODS:
        losses[method] = log_loss(cross_fitted(method, frames), frames.accident)
    return min(METHODS, key=losses.__getitem__)


@dataclass(frozen=True)
class Reliability:
    """How far probabilities are from frequencies.

    Attributes:
        ece: the expected calibration error: mean |share of accidents - mean p| over bins, weighted
            by their frames (Guo et al. 2017, section 2). Bins hold equally many frames
            here; of bins of equal width some could be nearly empty.
        expected: the mean ECE over labels drawn from p itself: what even perfect probabilities show
            with n frames.
        log_loss, brier: proper scores, lower is better.
        bins: mean p, share of accidents and number of frames of each bin, rising.
    """

    ece: float
    expected: float
    log_loss: float
    brier: float
    bins: tuple[tuple[float, float, int], ...]


def reliability(p: Floats, accident: Bools) -> Reliability:
    """How reliable probabilities (n,) of an accident are, given which frames show one (n,)."""
    bin_count = max(1, min(BINS, len(p) // MIN_PER_BIN))
    bins = np.array_split(np.argsort(p, kind="stable"), bin_count)
    rng = np.random.default_rng(ROUTING_SEED)
    simulated = rng.uniform(size=(SIMULATED, len(p))) < p
    return Reliability(
        ece=float(_ece(p, accident[None], bins)[0]),
        expected=float(_ece(p, simulated, bins).mean()),
        log_loss=log_loss(p, accident),
        brier=float(np.mean((p - accident) ** 2)),
        bins=tuple((float(p[i].mean()), float(accident[i].mean()), len(i)) for i in bins),
    )


def _ece(p: Floats, accident: Bools, bins: list[NDArray[np.intp]]) -> Floats:
    """Of each row of labels (k, n): (k,)."""
    weighted_gaps = []
    for members in bins:
        gap = np.abs(accident[:, members].mean(axis=1) - p[members].mean())
        weighted_gaps.append(len(members) * gap)
    return np.asarray(np.sum(weighted_gaps, axis=0) / len(p))
