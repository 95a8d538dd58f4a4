"""Quality against MLLM load: which frames are worth a call (COEF-VQ's claim, measured).

For every load each way of routing asks about its share of the frames; the gate decides the others.
Thresholds are fitted on validation frames and applied to test frames, in every resample anew.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dat_runtime.cascade import Costs, Floats
from eval.routing.probabilities import Bools, Scored, fit
from eval.routing.thresholds import balanced_costs, benefit

ROUTINGS = ("band", "entropy", "top_score", "random", "trigger")
"""Who is asked about first: `band` where a call pays most; `entropy` where p is nearest 0.5;
`top_score` the most suspicious; `random` any. `trigger` asks as `top_score` does, and what it does
not ask about is dropped, never reported (DAT)."""

LOADS = np.linspace(0, 1, 21)
RESAMPLES = 200
_TIE = 1e-9
"""Frames of one rank are told apart by chance, so that every load can be met."""


@dataclass(frozen=True)
class Curves:
    """Balanced accuracy and realised load per routing at each of `LOADS`.

    Attributes:
        quality, load: routing -> (loads,), of the test frames.
        drawn: routing -> (resamples, loads), quality in each resample.
    """

    quality: Mapping[str, Floats]
    load: Mapping[str, Floats]
    drawn: Mapping[str, Floats]


def curves(
    validation: Scored,
    test: Scored,
    method: str,
    mllm_error: Callable[[Scored], float],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Curves:
    """The curves with their resamples.

    Args:
        test: with the MLLM's answers.
        method: of calibration.
        mllm_error: of validation frames; asked again in each resample.
    """
    rng = np.random.default_rng(seed)
    quality, load = _measured(validation, test, method, mllm_error, rng)
    drawn: dict[str, list[Floats]] = {name: [] for name in ROUTINGS}
    for _ in range(resamples):
        found, _ = _measured(
            resampled(validation, rng), resampled(test, rng), method, mllm_error, rng
        )
        for name in ROUTINGS:
            drawn[name].append(found[name])
    return Curves(quality, load, {name: np.array(values) for name, values in drawn.items()})


def resampled(frames: Scored, rng: np.random.Generator) -> Scored:
    """As many frames drawn with replacement, with and without accidents apart (stratified)."""
    kinds = (np.flatnonzero(frames.accident), np.flatnonzero(~frames.accident))
    return frames.take(np.concatenate([rng.choice(k, len(k)) for k in kinds]))


def _measured(
    validation: Scored,
    test: Scored,
    method: str,
    mllm_error: Callable[[Scored], float],
    rng: np.random.Generator,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    calibration = fit(method, validation)
    costs = balanced_costs(float(validation.accident.mean()), mllm_error(validation))
    p, q = (calibration(f.score, f.signals) for f in (validation, test))
    quality, load = {}, {}
    for name in ROUTINGS:
        asked = _asked(_ranks(name, p, costs, rng), _ranks(name, q, costs, rng))
        alone = np.zeros(len(q), bool) if name == "trigger" else q >= costs.indifferent
        reported = np.where(asked, test.said, alone)
        quality[name] = balanced_accuracy(reported, test.accident)
        load[name] = asked.mean(axis=1)
    return quality, load


def error_of(frames: Scored) -> float:
    """The share of frames on which the MLLM is wrong, below one half."""
    if frames.said is None:
        raise ValueError("expected frames with the MLLM's answers")
    return min(float((frames.said != frames.accident).mean()), 0.49)


def _ranks(name: str, p: Floats, costs: Costs, rng: np.random.Generator) -> Floats:
    by = {
        "band": lambda: benefit(p, costs, reports=True),
        "entropy": lambda: np.minimum(p, 1 - p),
        "random": lambda: np.zeros(len(p)),
    }
    return np.asarray(by.get(name, lambda: p)() + _TIE * rng.uniform(size=len(p)))


def _asked(validation: Floats, test: Floats) -> Bools:
    """Of the test frames (loads, n), with the thresholds of the validation frames."""
    ends = np.quantile(validation, 1 - LOADS)
    ends[0], ends[-1] = np.inf, -np.inf
    return np.asarray(test >= ends[:, None])


def balanced_accuracy(reported: Bools, accident: Bools) -> Floats:
    """Mean of the shares of accidents reported and of other frames not; over the last axis."""
    recall = (reported & accident).sum(-1) / accident.sum()
    passed = (~reported & ~accident).sum(-1) / (~accident).sum()
    return np.asarray((recall + passed) / 2)


def interval(drawn: Floats) -> tuple[Floats, Floats]:
    """95 % of the resamples, per load."""
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    return low, high
