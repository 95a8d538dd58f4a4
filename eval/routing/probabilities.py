"""From the gate's scores to probabilities: fitted on validation frames, judged on others."""

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

Bools = NDArray[np.bool_]

METHODS = ("platt", "temperature", "isotonic")
FOLDS = 5
MIN_PER_KIND = 10
"""Frames with and without an accident that a fit needs at least."""

NOT_RISING = (
    "the gate's scores do not rise with accidents: train the gate longer before thresholds are "
    "fitted"
)
BINS = 10
MIN_PER_BIN = 15
SIMULATED = 500


@dataclass(frozen=True)
class Scored:
    """What the gate and others said of n frames, and the truth: arrays of length n.

    Attributes:
        score: s_t of Eq. 1.
        accident, severe: whether the labels hold one.
        signals: further scores in [0, 1] by name; NaN where missing.
        said: whether the MLLM reports an accident; `None` where it was not asked. A failed answer
            counts as the wrong one.
        failed: how many of the MLLM's answers failed or are missing.
    """

    score: Floats
    accident: Bools
    severe: Bools
    signals: Mapping[str, Floats]
    said: Bools | None = None
    failed: int = 0

    def __len__(self) -> int:
        return len(self.score)

    def take(self, index: Any) -> "Scored":
        """Some of the frames, by index or mask."""
        return Scored(
            self.score[index],
            self.accident[index],
            self.severe[index],
            {name: values[index] for name, values in self.signals.items()},
            None if self.said is None else self.said[index],
        )


def fit(method: str, frames: Scored) -> Calibration:
    """A calibration of the frames' scores; with signals, Platt's fuses them (late fusion).

    Raises:
        DataError: too few frames of a kind, or scores that do not rise with accidents.
    """
    _demand_frames(frames, MIN_PER_KIND)
    odds = logit(frames.score)
    if odds[frames.accident].mean() <= odds[~frames.accident].mean():
        raise DataError(NOT_RISING)
    if method == "isotonic":
        return _isotonic(frames)
    return _platt(frames) if method == "platt" else _temperature(frames)


def _demand_frames(frames: Scored, of_each_kind: int) -> None:
    positive = int(frames.accident.sum())
    if min(positive, len(frames) - positive) < of_each_kind:
        raise DataError(
            f"{positive} of {len(frames)} frames show an accident: a calibration needs at least "
            f"{of_each_kind} with and {of_each_kind} without"
        )


def _platt(frames: Scored) -> Logistic:
    from sklearn.linear_model import LogisticRegression

    columns = [logit(frames.score)]
    for values in frames.signals.values():
        missing = np.isnan(values)
        columns += [np.where(missing, 0, logit(np.where(missing, 0.5, values))), missing]
    # Nearly unpenalised: enough to keep a perfectly separated set finite.
    model = LogisticRegression(C=100.0, max_iter=1000)
    model.fit(np.column_stack(columns), frames.accident)
    weight, *others = (float(w) for w in model.coef_[0])
    if weight <= 0:
        raise DataError(NOT_RISING)
    parts = zip(others[::2], others[1::2], strict=True)
    signals = {n: Signal(*part) for n, part in zip(frames.signals, parts, strict=True)}
    fused = Logistic(weight, float(model.intercept_[0]), signals)
    for name, values in frames.signals.items():
        if not np.isnan(values).any():
            signals[name] = replace(signals[name], missing=_silence(fused, name, frames))
    return replace(fused, signals=signals)


def _silence(fused: Logistic, name: str, frames: Scored) -> float:
    """What stands for a signal that was never missing: without it p is right on average."""
    from scipy.optimize import brentq
    from scipy.special import expit

    others = {other: values for other, values in frames.signals.items() if other != name}
    odds = logit(fused(frames.score, others))
    share = float(frames.accident.mean())
    return float(brentq(lambda m: np.mean(expit(odds + m)) - share, -50, 50))


def _temperature(frames: Scored) -> Logistic:
    from scipy.optimize import minimize_scalar

    def loss(log_weight: float) -> float:
        return log_loss(Logistic(float(np.exp(log_weight)))(frames.score, {}), frames.accident)

    return Logistic(float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x)))


def _isotonic(frames: Scored) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=FLOOR, y_max=1 - FLOOR, out_of_bounds="clip")
    model.fit(frames.score, frames.accident)
    scores, values = model.X_thresholds_.tolist(), model.y_thresholds_.tolist()
    return Isotonic(tuple(scores), tuple(values))


def shifted(calibration: Calibration, from_share: float, to_share: float) -> Calibration:
    """The calibration for frames of which another share shows an accident (prior shift).

    Log-odds move by the difference of the shares' log-odds; what accidents look like is the same.
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
    inside = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-np.where(accident, np.log(inside), np.log1p(-inside)).mean())


def cross_fitted(method: str, frames: Scored, seed: int = 0) -> Floats:
    """Probabilities of each frame by a calibration that was fitted without it.

    Raises:
        DataError: see `fit`; the folds' share of the frames has to be enough for it.
    """
    from sklearn.model_selection import StratifiedKFold

    _demand_frames(frames, -(-MIN_PER_KIND * FOLDS // (FOLDS - 1)))
    p = np.empty(len(frames))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for fitted, held_out in folds.split(frames.score, frames.accident):
        others = frames.take(held_out)
        p[held_out] = fit(method, frames.take(fitted))(others.score, others.signals)
    return p


def choose(frames: Scored) -> str:
    """The method of least cross-fitted log loss; with signals only Platt's can fuse."""
    if frames.signals:
        return "platt"
    losses = {m: log_loss(cross_fitted(m, frames), frames.accident) for m in METHODS}
    return min(METHODS, key=losses.__getitem__)


@dataclass(frozen=True)
class Reliability:
    """How far probabilities are from frequencies.

    Attributes:
        ece: mean |share of accidents - mean p| over bins of equally many frames.
        expected: the ECE that labels drawn from p itself would show at this n, on average: below
            it there is nothing to see.
        log_loss, brier: proper scores, lower is better.
        bins: mean p, share of accidents and number of frames of each bin, rising.
    """

    ece: float
    expected: float
    log_loss: float
    brier: float
    bins: tuple[tuple[float, float, int], ...]


def reliability(p: Floats, accident: Bools, seed: int = 0) -> Reliability:
    """Of probabilities (n,) and whether the frames show an accident (n,)."""
    parts = np.array_split(np.argsort(p, kind="stable"), max(1, min(BINS, len(p) // MIN_PER_BIN)))
    drawn = np.random.default_rng(seed).uniform(size=(SIMULATED, len(p))) < p
    return Reliability(
        ece=float(_ece(p, accident[None], parts)[0]),
        expected=float(_ece(p, drawn, parts).mean()),
        log_loss=log_loss(p, accident),
        brier=float(np.mean((p - accident) ** 2)),
        bins=tuple((float(p[i].mean()), float(accident[i].mean()), len(i)) for i in parts),
    )


def _ece(p: Floats, accident: Bools, parts: list[NDArray[np.intp]]) -> Floats:
    """Of each row of labels (k, n)."""
    gaps = [len(i) * np.abs(accident[:, i].mean(axis=1) - p[i].mean()) for i in parts]
    return np.asarray(np.sum(gaps, axis=0) / len(p))
