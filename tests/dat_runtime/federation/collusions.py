"""Increments of honest nodes, as vectors, and what 49 of 100 that know them all could send."""

import numpy as np

from dat_runtime.federation.screening import Products

Vectors = np.ndarray
"""One increment a row."""

DIMENSIONS = 300


def honest(count: int, seed: int = 0, spread: float = 0.5) -> Vectors:
    """Increments of length near 1 around a common direction."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, DIMENSIONS)) * spread / np.sqrt(DIMENSIONS)
    noise[:, 0] += np.sqrt(1 - spread**2)
    return noise


HOSTILE, ALL = 49, 100


def products_of_vectors(vectors: Vectors) -> Products:
    """Of increments that are one term each."""
    return Products(vectors @ vectors.T, np.linalg.norm(vectors, axis=1))


def times_100(good: Vectors) -> Vectors:
    return 100 * good[:HOSTILE]


def sign_flip(good: Vectors) -> Vectors:
    return -good[:HOSTILE]


def within_the_clip(good: Vectors) -> Vectors:
    """As far as the clip allows, all in one direction of their own, at a right angle."""
    length = 1.99 * float(np.median(np.linalg.norm(good, axis=1)))
    away = np.zeros(DIMENSIONS)
    away[1] = length
    return np.tile(away, (HOSTILE, 1))


def just_not_against(good: Vectors) -> Vectors:
    """As far back as the median cosine lets pass: against the mean, and no honest cosine < -0.1."""
    mean = good.mean(0) / np.linalg.norm(good.mean(0))
    away = np.zeros(DIMENSIONS)
    away[1] = 1.0
    back = -0.07 * mean + np.sqrt(1 - 0.07**2) * away
    return np.tile(1.99 * back, (HOSTILE, 1))


def bridge_to_far_away(good: Vectors) -> Vectors:
    """Half of them between the honest ones and the rest, so that each has company."""
    far = within_the_clip(good)
    share = np.linspace(0, 1, HOSTILE)[:, None]
    return (1 - share) * good.mean(0) + share * far


def of_one_length(good: Vectors) -> Vectors:
    """All exactly as long as the median, so that any other length looks like an outlier."""
    length = float(np.median(np.linalg.norm(good, axis=1)))
    away = np.zeros(DIMENSIONS)
    away[1] = length
    return np.tile(away, (HOSTILE, 1))


def a_little(good: Vectors) -> Vectors:
    """Each the honest mean, moved against itself by what the honest ones spread."""
    mean = good.mean(0)
    spread = float(np.linalg.norm(good - mean, axis=1).mean())
    return np.tile(mean - spread * mean / np.linalg.norm(mean), (HOSTILE, 1))


COLLUSIONS = (
    times_100,
    sign_flip,
    within_the_clip,
    just_not_against,
    bridge_to_far_away,
    of_one_length,
    a_little,
)
