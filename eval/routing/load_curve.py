"""Quality against MLLM load: which frames are worth a call (COEF-VQ's claim, measured).

At every load each routing asks about its share of the frames, those it ranks highest, and the gate
decides the others. Thresholds are fitted on validation frames and applied to test frames, in every
resample anew (a nested bootstrap).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dat_runtime.cascade import Costs, Floats
from eval.routing.probabilities import Bools, Scored, fit
from eval.routing.thresholds import balanced_costs, benefit
from eval.statistics import bootstrap
from eval.statistics.bootstrap import balanced_accuracy

ROUTINGS = ("band", "entropy", "top_score", "random", "trigger")
"""Which frames come first. `band`: those for which a call is worth most. `entropy`: those whose p
is nearest to 0.5. `top_score`: the most suspicious ones. `random`: any. `trigger` (DAT) ranks as
`top_score` does, but drops every frame that the MLLM is not asked about; under the others the gate
may report it."""

LOADS = np.linspace(0, 1, 21)

_TIE = 1e-9
"""Random numbers up to this are added to the ranks. They order frames of equal rank by chance, so
that a threshold can be placed between them and every load can be met."""

MAX_MLLM_ERROR = 0.49
"""`Costs.mllm_error` must be below 0.5: from there on no call would be worth its price."""


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
    resamples: int = bootstrap.NESTED_RESAMPLES,
) -> Curves:
    """The curves with their resamples.

    Args:
        test: with the MLLM's answers.
        method: of calibration.
        mllm_error: from validation frames to the MLLM's error; called again in each resample.
    """
    rng = np.random.default_rng(bootstrap.ROUTING_SEED)
    quality, load = _measured(validation, test, method, mllm_error, rng)
    drawn: dict[str, list[Floats]] = {name: [] for name in ROUTINGS}
    for _ in range(resamples):
        validation_again = resampled(validation, rng)
        test_again = resampled(test, rng)
        quality_again, _ = _measured(validation_again, test_again, method, mllm_error, rng)
        for name in ROUTINGS:
            drawn[name].append(quality_again[name])
    return Curves(quality, load, {name: np.array(values) for name, values in drawn.items()})


def resampled(frames: Scored, rng: np.random.Generator) -> Scored:
    """As many frames drawn with replacement, those with and without an accident separately.

    So every resample holds both kinds, as a fit and balanced accuracy need.
    """
    with_accident = np.flatnonzero(frames.accident)
    without = np.flatnonzero(~frames.accident)
    drawn = [rng.choice(kind, len(kind)) for kind in (with_accident, without)]
    return frames.take(np.concatenate(drawn))


def _measured(
    validation: Scored,
    test: Scored,
    method: str,
    mllm_error: Callable[[Scored], float],
    rng: np.random.Generator,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Quality and realised load of each routing: (loads,) each."""
    calibration = fit(method, validation)
    costs = balanced_costs(float(validation.accident.mean()), mllm_error(validation))
    p_validation = calibration(validation.score, validation.signals)
    p_test = calibration(test.score, test.signals)
    quality, load = {}, {}
    for name in ROUTINGS:
        validation_ranks = _ranks(name, p_validation, costs, rng)
        test_ranks = _ranks(name, p_test, costs, rng)
        asked = _asked(validation_ranks, test_ranks)
        if name == "trigger":
            reported_alone = np.zeros(len(p_test), bool)
        else:
            reported_alone = p_test >= costs.indifferent
        reported = np.where(asked, test.mllm_reports, reported_alone)
        quality[name] = balanced_accuracy(reported, test.accident)
        load[name] = asked.mean(axis=1)
    return quality, load


def error_of(frames: Scored) -> float:
    """The share of frames on which the MLLM is wrong, at most `MAX_MLLM_ERROR`."""
    if frames.mllm_reports is None:
        raise ValueError("expected frames with the MLLM's answers")
    return min(float((frames.mllm_reports != frames.accident).mean()), MAX_MLLM_ERROR)


def _ranks(name: str, p: Floats, costs: Costs, rng: np.random.Generator) -> Floats:
    """What a routing orders frames by, (n,): the highest are asked about first."""
    if name == "band":
        ranks = benefit(p, costs, reports=True)
    elif name == "entropy":
        ranks = np.minimum(p, 1 - p)
    elif name == "random":
        ranks = np.zeros(len(p))
    else:
        ranks = p
    return np.asarray(ranks + _TIE * rng.uniform(size=len(p)))


def _asked(validation: Floats, test: Floats) -> Bools:
    """Which test frames are asked about at each load, (loads, n), from the ranks of both sets.

    At a load the threshold is the rank that this share of the validation frames reaches.
    """
    thresholds = np.quantile(validation, 1 - LOADS)
    # None at a load of 0 and all at 1, also of test frames that outrank every validation frame.
    thresholds[0], thresholds[-1] = np.inf, -np.inf
    return np.asarray(test >= thresholds[:, None])
