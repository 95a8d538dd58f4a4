"""The ACCIDENT score: when, where and of which kind an accident was, as the benchmark scores it.

After `scripts/metrics.py` of github.com/accidentbench/accidentbench.github.io at commit 9087fd6
(`score_submission`; its names are kept), which scores what is sent to the benchmark of Picek et
al., arXiv:2604.09819. Over the N clips, with σ = 1:

    T = mean exp(-(t̂ - t)² / 2σ²)                                        t in seconds
    S = mean exp(-(x̂ - x)² / 2(σ w)² - (ŷ - y)² / 2(σ h)²)               in shares of the frame
    C = share of clips whose type is right
    ACC^S = 3 / (1/T + 1/S + 1/C), and 0 where one of them is 0

w and h are the mean width and height of the N labelled boxes. T and S are stated for σ = 0.5 and 2
too. Intervals are ours: over the clips, with w and h as they are.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from eval.statistics.bootstrap import Floats, interval, resampled_sums

SIGMAS = (0.5, 1.0, 2.0)
_UNIFIED = (SIGMAS.index(1.0), len(SIGMAS) + SIGMAS.index(1.0), 2 * len(SIGMAS))
"""The columns of `similarities` that make ACC^S: T and S at σ = 1, and C."""


class Claim(NamedTuple):
    """Said of a clip, or true of it.

    Attributes:
        time: seconds from the clip's start.
        x, y: the point of impact, in shares of the frame's width and height.
        type: of the collision; white space around it and capitals do not count.
    """

    time: float
    x: float
    y: float
    type: str


class Label(NamedTuple):
    """What is true of a clip, with the sides of the labelled box in shares of the frame."""

    truth: Claim
    width: float
    height: float


def similarities(claims: Sequence[Claim], labels: Sequence[Label]) -> Floats:
    """How near each claim is to its label: (N, 7), T for each of `SIGMAS`, S for each, then C."""
    said = np.array([(c.time, c.x, c.y) for c in claims])
    true = np.array([(label.truth.time, label.truth.x, label.truth.y) for label in labels])
    sides = np.array([(label.width, label.height) for label in labels]).mean(axis=0)
    off_by = (said - true) / np.array([1.0, *sides])  # in units of σ
    temporal, spatial = off_by[:, 0] ** 2, (off_by[:, 1:] ** 2).sum(axis=1)
    columns = [np.exp(-square / (2 * s**2)) for square in (temporal, spatial) for s in SIGMAS]
    columns.append(np.array([_same(c, label) for c, label in zip(claims, labels, strict=True)]))
    return np.column_stack(columns)


def _same(claim: Claim, label: Label) -> float:
    return float(claim.type.strip().lower() == label.truth.type.strip().lower())


def harmonic_mean(means: Floats) -> Floats:
    """Over the last axis; 0 where one of the means is 0."""
    positive = (means > 0).all(axis=-1)
    with np.errstate(divide="ignore", over="ignore"):  # of a mean near 0 the inverse is infinite
        mean = means.shape[-1] / (1 / means).sum(axis=-1)
    return np.where(positive, mean, 0.0)


def score(claims: Sequence[Claim], labels: Sequence[Label]) -> dict[str, Any]:
    """The scores under the benchmark's names, each as `{"value", "low", "high"}`.

    `temporal` and `spatial` hold one for each σ.

    Raises:
        ValueError: not one claim for each label, or none at all.
    """
    if len(claims) != len(labels) or not claims:
        raise ValueError(f"{len(claims)} claims about {len(labels)} clips: expected one for each")
    near = similarities(claims, labels)
    sums = resampled_sums(np.column_stack([near, np.ones(len(near))]))
    means, resampled = near.mean(axis=0), sums[:, :-1] / sums[:, -1:]
    entries = [interval(m, r)._asdict() for m, r in zip(means, resampled.T, strict=True)]
    chosen = list(_UNIFIED)
    unified = interval(float(harmonic_mean(means[chosen])), harmonic_mean(resampled[:, chosen]))
    names = [f"{sigma:g}" for sigma in SIGMAS]
    return {
        "temporal": dict(zip(names, entries[: len(names)], strict=True)),
        "spatial": dict(zip(names, entries[len(names) : -1], strict=True)),
        "type_accuracy": entries[-1],
        "unified_score": unified._asdict(),
    }
