"""The rule on its own: increments are vectors here, their Gram matrix is all that it sees."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.errors import DataError
from dat_runtime.federation.screening import CLIP, SAMPLES, Screening, screen
from tests.dat_runtime.federation.collusions import (
    ALL,
    COLLUSIONS,
    HOSTILE,
    Vectors,
    honest,
    products_of_vectors,
    within_the_clip,
)


def screened(vectors: Vectors, samples: list[int] | None = None) -> Screening:
    return screen(products_of_vectors(vectors), samples or [100] * len(vectors))


def outcome(vectors: Vectors, samples: list[int] | None = None) -> np.ndarray:
    return screened(vectors, samples).coefficients @ vectors


def diameter(vectors: Vectors) -> float:
    squares = (vectors**2).sum(1)
    distances = squares[:, None] + squares - 2 * vectors @ vectors.T
    return float(np.sqrt(max(distances.max(), 0)))


def test_nodes_that_agree_are_averaged_by_their_samples() -> None:
    vectors = honest(5)
    samples = [100, 200, 300, 100, 100]
    wanted = np.array(samples) / sum(samples)
    result = screened(vectors, samples)
    np.testing.assert_allclose(result.coefficients, wanted, rtol=1e-12)
    assert all(v.refused is None and v.clip == v.pull == 1 for v in result.verdicts)


def test_one_node_is_its_own_average_and_two_are_weighed() -> None:
    assert screened(honest(1), [7]).coefficients == [1.0]
    two = screened(honest(2), [30, 10]).coefficients
    np.testing.assert_allclose(two, [0.75, 0.25])


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(7)))
def test_the_order_of_the_nodes_does_not_matter(order: list[int]) -> None:
    vectors = honest(7)
    vectors[3] *= 3.0
    samples = [10, 900, 30, 40, 50, 60, 70]
    result = outcome(vectors[list(order)], [samples[i] for i in order])
    np.testing.assert_allclose(result, outcome(vectors, samples), atol=1e-12)


def test_a_count_of_samples_is_a_claim() -> None:
    shares = [v.share for v in screened(honest(5), [100, 100, 100, 100, 10**9]).verdicts]
    assert shares[4] == pytest.approx(SAMPLES / (4 + SAMPLES))


def test_a_long_increment_is_clipped_to_twice_the_median() -> None:
    vectors = honest(5)
    vectors[2] *= 3
    result = screened(vectors)
    verdict = result.verdicts[2]
    assert verdict.refused is None
    assert verdict.norm * verdict.clip == pytest.approx(CLIP * result.median_norm)


def test_what_lies_far_from_the_majority_is_pulled_in() -> None:
    vectors = honest(7, spread=0.1)
    vectors[2] = np.roll(vectors[2], 1)  # at a right angle to the others
    result = screened(vectors)
    assert result.verdicts[2].refused is None
    assert 0 < result.verdicts[2].pull < 0.5
    assert result.coefficients.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda v: v * 100, r"length 9\d.*times the median"),
        (lambda v: v * 30, "is an outlier"),
        (lambda v: v / 100, "is an outlier"),
        (lambda v: v * 0, "is an outlier"),
        (lambda v: -v, "points against most others: median cosine -0"),
        (lambda v: v * np.nan, "holds NaN or infinity"),
    ],
)
def test_who_is_refused_is_told_why(change: Callable[[Vectors], Vectors], reason: str) -> None:
    vectors = honest(9)
    vectors[4] = change(vectors[4])
    result = screened(vectors)
    assert [i for i, v in enumerate(result.verdicts) if v.refused] == [4]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(result.verdicts[4].refused)
    np.testing.assert_allclose(result.coefficients, np.where(np.arange(9) == 4, 0, 1 / 8))


def test_without_a_majority_there_is_no_result() -> None:
    vectors = honest(4)
    vectors[:2] *= -100
    with pytest.raises(DataError, match=r"0 of 4 increments remain, a majority is 3"):
        screened(vectors)
    with pytest.raises(DataError, match="no increment is finite"):
        screened(vectors * np.nan)
    vectors[:3] = 0
    with pytest.raises(DataError, match="change nothing: the round is void"):
        screened(vectors)


# 49 of 100 nodes are hostile, know every honest increment, and agree on theirs.


@pytest.mark.parametrize("spread", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("collusion", COLLUSIONS, ids=lambda attack: attack.__name__)
def test_49_colluding_nodes_of_100_stay_within_the_bound(
    collusion: Callable[[Vectors], Vectors], spread: float
) -> None:
    good = honest(ALL - HOSTILE, spread=spread)
    vectors = np.concatenate([collusion(good), good])
    # They claim as many samples as they like.
    samples = [10**9] * HOSTILE + [100] * (ALL - HOSTILE)
    result = screened(vectors, samples)
    assert [v.refused for v in result.verdicts[HOSTILE:]] == [None] * len(good)
    distance = np.linalg.norm(result.coefficients @ vectors - good.mean(0))
    assert distance <= 4 * min(result.median_norm, diameter(good))


def test_the_median_norm_is_one_that_an_honest_node_could_have() -> None:
    good = honest(ALL - HOSTILE)
    norms = np.linalg.norm(good, axis=1)
    for collusion in COLLUSIONS:
        median = screened(np.concatenate([collusion(good), good])).median_norm
        assert norms.min() <= median <= norms.max()


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 9),
    st.integers(1, 4),
    st.floats(0.01, 3),
    st.floats(0.01, 5),
)
def test_no_minority_gets_past_the_bound(
    seed: int, good_count: int, dimensions: int, spread: float, reach: float
) -> None:
    """In few dimensions, where hostile increments can be anywhere between the honest ones."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=dimensions)
    good = centre + spread * rng.normal(size=(good_count, dimensions))
    bad = rng.normal(size=(good_count - 1, dimensions)) * reach
    vectors = np.concatenate([bad, good])
    samples = [int(n) for n in rng.integers(1, 10**6, len(vectors))]
    try:
        result = screened(vectors, samples)
    except DataError:
        return  # no majority: nothing was aggregated
    limits = CLIP * result.median_norm / np.linalg.norm(good, axis=1)
    clipped = good * np.minimum(1, limits)[:, None]
    distance = np.linalg.norm(result.coefficients @ vectors - clipped.mean(0))
    assert distance <= 4 * result.median_norm * (1 + 1e-9)
    if all(v.refused is None for v in result.verdicts[len(bad) :]):
        assert distance <= 4 * diameter(clipped) + 1e-6 * result.median_norm


def test_a_plain_mean_would_be_past_the_bound() -> None:
    """The bound says something: without the rule, or with too many hostile nodes, it fails."""
    good = honest(ALL - HOSTILE, spread=0.1)
    bad = within_the_clip(good)
    plain = np.concatenate([bad, good]).mean(0)
    assert np.linalg.norm(plain - good.mean(0)) > 4 * diameter(good)
    too_many = np.concatenate([bad, bad[:3], good])
    distance = np.linalg.norm(outcome(too_many) - good.mean(0))
    assert distance > 4 * diameter(good)
