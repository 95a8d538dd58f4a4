"""Who is heard in a round, and with what weight: from the increments' Gram matrix alone.

An increment is a node's update less the one that the round started from, Δ = BᵢAᵢ − g, taken as one
long vector over all modules. Lengths, angles and distances of all of them are in the K x K matrix
of their products, so nothing here depends on how a node factors its update or on the model's size.

Fewer than half of the nodes that are heard are assumed to be hostile. They may know all increments
and agree on theirs. Then, with m the median length, h any weighted mean of honest increments
(clipped as below) and D the largest distance between two of those:

    ‖result − h‖ ≤ 4 m       whatever the honest increments are
    ‖result − h‖ ≤ 4 D       if none of the honest ones was refused

1. Every increment is clipped to length 2 m, and the result is a weighted mean of points that lie
   between clipped increments: its length is at most 2 m, and so is that of h.
2. The centre is the client with the smallest radius r within which it has a majority of all. That
   majority holds an honest increment, so the centre is within r + D of h. An honest client has all
   honest ones within D, and they are a majority, so r ≤ D. What lies further than 2 r from the
   centre is pulled in to 2 r: the result is within 2 r + r + D ≤ 4 D of h.

An honest increment is never refused where honest lengths are within a factor `NORM_FACTOR` of one
another and no two of them have a cosine below `LOWEST_COSINE`; none is clipped within a factor 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dat_runtime.errors import DataError

NORM_FACTOR = 4.0
"""A length within this factor of the median is no outlier, however much alike the others are: else
a minority of one length would have everyone else refused."""

NORM_DEVIATIONS = 3.5
"""Of log-lengths, in standard deviations as estimated from the median absolute deviation."""

_DEVIATION_PER_MAD = 1.4826
"""Of normally distributed values."""

LOWEST_COSINE = -0.1
"""Honest increments may be at right angles; against most others points what works against them."""

MOST_SIZE = 1e4
"""Of an update's terms b a, in median lengths. Terms that large cancel one another, and what is
left of them in float64 is rounding: such factors could hide any length from the rule above."""

CLIP = 2.0
"""Longest increment, in median lengths; and the furthest from the centre, in its radii."""

SAMPLES = 5.0
"""Most samples that count, in medians: a count is a claim."""

_SHORTEST = 1e-9
"""In median lengths: a shorter increment is as good as none."""


@dataclass(frozen=True)
class Products:
    """What the increments are to one another.

    Attributes:
        gram: (K, K), <Δᵢ, Δⱼ>; not finite where an increment is not.
        sizes: (K,), the length that each update would have if none of its terms b a, one for each
            rank, cancelled another.
    """

    gram: NDArray[np.float64]
    sizes: NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """What became of one increment.

    Attributes:
        refused: why; None when it counts.
        norm: ‖Δ‖; NaN where the increment is not finite.
        cosine: the median of those with the others; NaN where there is none.
        clip: factor of its length, at most 1.
        share: weight by samples; all shares add up to 1.
        pull: share of the way from the centre at which it counts, at most 1.
    """

    refused: str | None = None
    norm: float = float("nan")
    cosine: float = float("nan")
    clip: float = 1.0
    share: float = 0.0
    pull: float = 1.0


@dataclass(frozen=True)
class Screening:
    """The outcome for a round.

    Attributes:
        verdicts: in the order of the clients.
        coefficients: (K,), the result is Σ coefficient · Δ.
        centre: the client nearest to a majority.
        radius: of the smallest ball around the centre that holds a majority.
        median_norm: m.
    """

    verdicts: tuple[Verdict, ...]
    coefficients: NDArray[np.float64]
    centre: int
    radius: float
    median_norm: float


def screen(products: Products, samples: Sequence[int]) -> Screening:
    """Weights of the increments, those of refused ones 0.

    Args:
        samples: on which each node trained.

    Raises:
        DataError: not more than half of the clients with finite increments remain, or more than
            half change nothing.
    """
    heard = np.flatnonzero(np.isfinite(products.gram.diagonal()))
    if not heard.size:
        raise DataError("no increment is finite: there is nothing to aggregate")
    gram = products.gram[np.ix_(heard, heard)]
    norms = np.sqrt(np.maximum(gram.diagonal(), 0))
    median = float(np.median(norms))
    if not median:
        raise DataError("more than half of the increments change nothing: the round is void")
    judged = _judged(gram, norms, median, products.sizes[heard])
    accepted = np.flatnonzero([verdict.refused is None for verdict in judged])
    majority = len(heard) // 2 + 1
    _demand_majority(judged, len(accepted), majority)
    within = np.ix_(accepted, accepted)
    counts = np.array(samples, np.float64)[heard[accepted]]
    weighed = _weighed(gram[within], norms[accepted], median, counts, majority)

    verdicts = [Verdict(refused="holds NaN or infinity") for _ in samples]
    for client, verdict in zip(heard.tolist(), judged, strict=True):
        verdicts[client] = verdict
    coefficients = np.zeros(len(samples))
    clients = heard[accepted].tolist()
    for i, client in enumerate(clients):
        coefficients[client] = weighed.coefficients[i]
        verdicts[client] = replace(
            verdicts[client],
            clip=float(weighed.clips[i]),
            share=float(weighed.shares[i]),
            pull=float(weighed.pulls[i]),
        )
    centre = clients[weighed.centre]
    return Screening(tuple(verdicts), coefficients, centre, weighed.radius, median)


def _demand_majority(judged: Sequence[Verdict], accepted: int, majority: int) -> None:
    if accepted < majority:
        reasons = [verdict.refused for verdict in judged if verdict.refused]
        raise DataError(
            f"{accepted} of {len(judged)} increments remain, a majority is {majority}: the nodes "
            f"do not agree (such as: {reasons[0]})"
        )


def _judged(
    gram: NDArray[np.float64],
    norms: NDArray[np.float64],
    median: float,
    sizes: NDArray[np.float64],
) -> list[Verdict]:
    """Each increment's length and median cosine, and whether one of them or its size refuses it."""
    lengths = np.maximum(norms, _SHORTEST * median)
    deviations = np.abs(np.log(lengths / median))
    spread = _DEVIATION_PER_MAD * float(np.median(deviations))
    limit = max(np.log(NORM_FACTOR), NORM_DEVIATIONS * spread)
    cosines = gram / np.outer(lengths, lengths)
    verdicts = []
    for i, norm in enumerate(norms):
        cosine = _high_median(np.delete(cosines[i], i))
        refused = None
        if sizes[i] > MOST_SIZE * median:
            refused = (
                f"its factors' terms have {sizes[i] / median:.3g} times the median length, more "
                f"than {MOST_SIZE:.3g}: they cancel one another"
            )
        elif deviations[i] > limit:
            refused = (
                f"length {norm:.3g}, {norm / median:.3g} times the median; more than "
                f"{np.exp(limit):.3g} times away is an outlier"
            )
        elif cosine < LOWEST_COSINE:
            refused = f"points against most others: median cosine {cosine:.2f}"
        verdicts.append(Verdict(refused, float(norm), cosine))
    return verdicts


def _high_median(values: NDArray[np.float64]) -> float:
    """The upper of the two middle values: below it are fewer than half of all clients."""
    return float(np.sort(values)[len(values) // 2]) if len(values) else float("nan")


@dataclass(frozen=True)
class _Weighed:
    clips: NDArray[np.float64]
    shares: NDArray[np.float64]
    pulls: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    centre: int
    radius: float


def _weighed(
    gram: NDArray[np.float64],
    norms: NDArray[np.float64],
    median: float,
    samples: NDArray[np.float64],
    majority: int,
) -> _Weighed:
    """Clip to 2 m, find the centre, pull in what is far from it, weigh by samples."""
    clips = _shrinking(norms, CLIP * median)
    clipped = gram * np.outer(clips, clips)
    squares = clipped.diagonal()
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * clipped, 0))
    np.fill_diagonal(distances, 0.0)
    radii = np.sort(distances, axis=1)[:, majority - 1]
    centre = int(np.argmin(radii))
    radius = float(radii[centre])
    pulls = _shrinking(distances[centre], CLIP * radius)
    capped = np.minimum(samples, SAMPLES * np.median(samples))
    shares = capped / capped.sum()
    coefficients = shares * pulls
    # What is pulled in counts as the centre for the rest of its way.
    coefficients[centre] += float(np.sum(shares * (1.0 - pulls)))
    return _Weighed(clips, shares, pulls, coefficients * clips, centre, radius)


def _shrinking(lengths: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """The factors that bring each length to at most a limit."""
    longer = lengths > limit
    return np.where(longer, limit / np.where(longer, lengths, 1.0), 1.0)
