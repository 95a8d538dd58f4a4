"""The one bootstrap: what an interval covers, what a resample without a value does, fixed draws."""

import numpy as np
import pytest

from eval.statistics import bootstrap
from eval.statistics.bootstrap import Interval, balanced_accuracy, bounds, interval, mean_interval


def test_an_interval_holds_95_percent_of_the_resamples() -> None:
    assert interval(50.0, np.arange(101.0)) == Interval(50.0, 2.5, 97.5)


def test_an_undefined_value_has_no_interval() -> None:
    assert interval(float("nan"), np.arange(101.0)) == Interval(None, None, None)


def test_resamples_that_leave_the_value_undefined_are_left_out() -> None:
    with_gaps = np.append(np.arange(101.0), [np.nan] * 50)
    assert interval(50.0, with_gaps) == Interval(50.0, 2.5, 97.5)


def test_bounds_of_many_statistics_are_those_of_each() -> None:
    resampled = np.random.default_rng(3).normal(size=(500, 4))
    resampled[::7, 2] = np.nan
    low, high = bounds(resampled)
    for i in range(4):
        assert interval(0.0, resampled[:, i]) == (0.0, low[i], high[i])


def test_draws_are_the_same_each_time_and_of_the_frames_alone() -> None:
    first, again = bootstrap.draws(7, 50), bootstrap.draws(7, 50)
    assert first.shape == (50, 7)
    assert set(first.ravel()) == set(range(7))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, bootstrap.draws(7, 50, seed=1))


def test_the_interval_of_a_mean_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        _, low, high = mean_interval(rng.normal(1.0, 2.0, 60))
        assert low is not None
        assert high is not None
        covered += low < 1.0 < high
    assert 0.9 <= covered / 200 <= 0.99


def test_the_interval_of_equal_values_is_a_point() -> None:
    assert mean_interval(np.full(5, 0.25)) == Interval(0.25, 0.25, 0.25)


def test_sums_are_those_of_the_drawn_frames() -> None:
    quantities = np.random.default_rng(1).normal(size=(9, 3))
    drawn = bootstrap.draws(9, 20)
    expected = quantities[drawn].sum(axis=1)
    assert bootstrap.resampled_sums(quantities, 20) == pytest.approx(expected)


def test_batches_draw_what_one_batch_would(monkeypatch: pytest.MonkeyPatch) -> None:
    quantities = np.random.default_rng(1).normal(size=(9, 3))
    whole = bootstrap.resampled_sums(quantities, 20)
    monkeypatch.setattr(bootstrap, "_DRAWN_AT_ONCE", 30)
    assert bootstrap.resampled_sums(quantities, 20) == pytest.approx(whole)


def test_many_frames_are_drawn_in_blocks_that_hold_each_frame_once() -> None:
    n = 3 * bootstrap.MAX_BLOCKS + 1
    ones = np.ones((n, 1))
    sums = bootstrap.resampled_sums(ones, 50)
    assert sums.mean() == pytest.approx(n, rel=0.01)
    values = np.random.default_rng(4).normal(size=(n, 1))
    error = bootstrap.resampled_sums(values, 2000).std() / n
    assert error == pytest.approx(values.std() / np.sqrt(n), rel=0.1)


def test_balanced_accuracy_is_the_mean_of_both_shares() -> None:
    accident = np.array([True, True, True, True, False, False])
    reported = np.array([True, True, True, False, True, False])
    assert balanced_accuracy(reported, accident) == (3 / 4 + 1 / 2) / 2


def test_balanced_accuracy_is_taken_over_the_last_axis() -> None:
    rng = np.random.default_rng(2)
    reported, accident = rng.uniform(size=(2, 5, 40)) < 0.4
    each = [balanced_accuracy(r, a) for r, a in zip(reported, accident, strict=True)]
    assert np.array_equal(balanced_accuracy(reported, accident), each)
    one_truth = [balanced_accuracy(r, accident[0]) for r in reported]
    assert np.array_equal(balanced_accuracy(reported, accident[0]), one_truth)


def test_balanced_accuracy_of_frames_of_one_kind_is_undefined() -> None:
    reported = np.array([True, False])
    assert np.isnan(balanced_accuracy(reported, np.array([True, True])))
    assert np.isnan(balanced_accuracy(reported, np.array([False, False])))
