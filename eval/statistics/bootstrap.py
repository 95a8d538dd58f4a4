"""Bootstrap intervals, and balanced accuracy: statistics that all rooms share.

An interval is the 2.5th to the 97.5th percentile of a statistic over samples that are drawn with
replacement from the measured frames, as many as there are (the percentile bootstrap). A sample
that leaves the statistic undefined, such as one without a true box, is left out. The seed is fixed:
equally many frames give the same draws, which pairs the rows of a table.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RESAMPLES = 2000

PRECISION_RESAMPLES = 1000
"""Where each resample takes the average precisions of a whole split anew (Fig. 4)."""

NESTED_RESAMPLES = 200
"""Where each resample fits a calibration and thresholds anew."""

SEED = 20260

ROUTING_SEED = 0
"""Seed of all draws in `eval/routing`; the figures of docs/gate.md were made with it."""

PERCENTILES = (2.5, 97.5)
"""95 % of the resamples lie between them."""

MAX_BLOCKS = 2048
"""More frames than this are dealt into this many blocks, which are drawn instead of frames."""

_DRAWN_AT_ONCE = 2**20
"""Draws in one batch of resamples: its weights, a float each, take 8 MiB."""


class Interval(NamedTuple):
    """A statistic with its 95 % bootstrap interval; all `None` where it is undefined."""

    value: float | None
    low: float | None
    high: float | None


def bounds(resampled: Floats) -> tuple[Floats, Floats]:
    """Both ends of the 95 % interval of each statistic.

    Args:
        resampled: (resamples, ...); NaN where a resample leaves a statistic undefined.

    Returns:
        Low and high, (...) each.
    """
    low, high = np.nanpercentile(resampled, PERCENTILES, axis=0)
    return low, high


def interval(value: float, resampled: Floats) -> Interval:
    """One statistic, NaN where it is undefined, with the interval of its resamples (resamples,)."""
    if np.isnan(value):
        return Interval(None, None, None)
    low, high = bounds(resampled)
    return Interval(float(value), float(low), float(high))


def draws(n: int, resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.int64]:
    """Which of n frames each resample holds: indices (resamples, n)."""
    return np.random.default_rng(seed).integers(0, n, (resamples, n))


def mean_interval(values: Floats) -> Interval:
    """The mean of the values (n,) with its interval."""
    resampled = values[draws(len(values))].mean(axis=1)
    return interval(float(values.mean()), resampled)


def rate_interval(hits: int, of: int) -> Interval:
    """A rate with its exact binomial interval (Clopper-Pearson).

    For rates near 0 or 1, where every resample is alike and a bootstrap interval has no width.
    """
    from scipy.stats import binomtest

    if of == 0:
        return Interval(None, None, None)
    low, high = binomtest(hits, of).proportion_ci()
    return Interval(hits / of, float(low), float(high))


def resampled_sums(quantities: Floats, resamples: int = RESAMPLES) -> Floats:
    """The sums of each frame's quantities over the frames of each resample: (resamples, k).

    A metric that is a function of such sums costs one row of a matrix product per resample.

    Args:
        quantities: (n, k), k of each frame.

    More than `MAX_BLOCKS` frames are first dealt at random into that many blocks, which are drawn
    instead: the same interval in expectation, at a cost that no longer grows with the frames.
    """
    rng = np.random.default_rng(SEED)
    if len(quantities) > MAX_BLOCKS:
        order = rng.permutation(len(quantities))
        starts = np.arange(MAX_BLOCKS) * len(quantities) // MAX_BLOCKS
        quantities = np.add.reduceat(quantities[order], starts, axis=0)
    n = len(quantities)
    batch = max(1, _DRAWN_AT_ONCE // n)
    sums = []
    for done in range(0, resamples, batch):
        size = min(batch, resamples - done)
        drawn = rng.integers(0, n, (size, n))
        # How often each resample drew each frame, counted for all at once: resample i counts in
        # the places from i * n on.
        places = drawn + np.arange(size)[:, None] * n
        weights = np.bincount(places.ravel(), minlength=size * n).reshape(size, n)
        sums.append(weights.astype(float) @ quantities)
    return np.concatenate(sums)


def balanced_accuracy(reported: Bools, accident: Bools) -> Floats:
    """The mean of two shares, over the last axis (frames).

    They are the share of accident frames that are reported, and the share of other frames that are
    not. NaN where there are no accidents, or nothing but accidents.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = (reported & accident).sum(-1) / accident.sum(-1)
        passed = (~reported & ~accident).sum(-1) / (~accident).sum(-1)
    return np.asarray((recall + passed) / 2)
