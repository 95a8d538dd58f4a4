"""Bounds, budgets and bands, each against a count or a search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.cascade import Band, Budget, Costs, Routing
from dat_runtime.errors import ConfigError
from eval.routing import thresholds


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_many_frames_are_routed_as_one_is(scores: list[float], low: float, width: float) -> None:
    band = Band(low, None if width is None else min(1.0, low + width))
    routing = Routing(0.25, band)
    asked = thresholds.asked_about(np.array(scores), np.array(scores) >= 0.25, band)
    assert [routing.decide(s) == "ask" for s in scores] == asked.tolist()


def test_a_bound_without_severe_frames_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 validation frames show a severe accident"):
        thresholds.low_bound(np.array([0.5]), np.array([False]), 0.1)


def test_a_bound_that_few_severe_frames_cannot_support_says_how_many_it_takes() -> None:
    with pytest.raises(ConfigError, match=r"58 validation frames .* takes 59"):
        thresholds.low_bound(np.linspace(0, 1, 58), np.ones(58, bool), 0.05)
    assert thresholds.low_bound(np.linspace(0.1, 1, 59), np.ones(59, bool), 0.05) == 0.1


@pytest.mark.parametrize("missed", [0.05, 0.2])
def test_the_bound_on_missed_severe_accidents_holds_on_other_frames_too(missed: float) -> None:
    rng = np.random.default_rng(0)
    exceeded = 0
    for _ in range(400):
        low = thresholds.low_bound(rng.uniform(size=150), np.ones(150, bool), missed)
        exceeded += low > missed  # p is uniform, so the share dropped is the threshold itself
    assert exceeded / 400 <= 0.08


@settings(deadline=None, max_examples=40)
@given(
    st.floats(0, 0.4),
    st.builds(Costs, st.floats(0.2, 5), st.floats(0.2, 5), st.floats(0, 0.3)),
)
def test_the_closed_form_costs_at_most_a_hundredth_more_than_the_best_of_a_grid(
    price: float, costs: Costs
) -> None:
    p = np.random.default_rng(0).beta(1, 2, 100)
    budget = Budget(1.0, price, costs)
    for reports in (True, False):
        assert thresholds.grid_gap(p, np.full(100, 0.01), budget, reports, steps=50) <= 0.01


def test_a_grid_finds_a_band_that_is_not_the_best() -> None:
    p, weight, costs = np.linspace(0, 1, 100), np.full(100, 0.01), Costs()
    best = thresholds.expected_cost(p, weight, Band(0.1, 0.9), 0.1, costs)
    assert thresholds.expected_cost(p, weight, Band(0.3, 0.6), 0.1, costs) > 1.1 * best
