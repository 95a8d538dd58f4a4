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


def test_frames_weigh_what_makes_the_share_of_accidents() -> None:
    accident = np.array([True, False, False, False])
    assert thresholds.weights(accident, 0.25 / 2) == pytest.approx([0.125, *[0.875 / 3] * 3])
    for uniform in ((accident, None), (~np.ones(4, bool), 0.5), (np.ones(4, bool), 0.5)):
        assert thresholds.weights(*uniform).tolist() == [0.25] * 4
    one_of_three = np.array([True, True, False])
    assert thresholds.weights(one_of_three, 0.5).tolist() == [0.25, 0.25, 0.5]


def test_balanced_costs_and_the_benefit_of_a_call_by_hand() -> None:
    assert thresholds.balanced_costs(0.2, 0.1) == Costs(2.5, 0.625, 0.1)
    p, costs = np.array([0.2, 0.8]), Costs(2.0, 0.5, 0.1)  # the MLLM's mistakes: 0.08, 0.17
    assert thresholds.benefit(p, costs, True) == pytest.approx([0.4 - 0.08, 0.1 - 0.17])
    assert thresholds.benefit(p, costs, False) == pytest.approx([0.4 - 0.08, 1.6 - 0.17])
    assert [thresholds.reports(policy) for policy in thresholds.POLICIES] == [False, True, True]


def test_the_budget_is_met_at_the_least_price() -> None:
    p, weight, kept = np.array([0.1, 0.3, 0.5, 0.7, 0.9]), np.full(5, 0.2), np.ones(5, bool)

    def price(load: float, reports: bool, low_at_most: float = 1.0) -> float:
        fitted = thresholds.fit_budget(p, weight, kept, load, Costs(), reports, low_at_most)
        assert (fitted.load, fitted.costs, fitted.low_at_most) == (load, Costs(), low_at_most)
        return fitted.price

    # Asked from p = price on: a frame less each time the price passes a p. Half of one is rounding.
    for load, least in ((1.0, 0.0), (0.8, 0.1), (0.71, 0.1), (0.69, 0.3), (0.4, 0.5), (0.0, 0.9)):
        assert price(load, reports=False) == pytest.approx(least, abs=1e-12)
    # Reported from 1 - price on: 0.1 and 0.9 go together.
    for load, least in ((1.0, 0.0), (0.6, 0.1), (0.2, 0.3), (0.0, 0.5)):
        assert price(load, reports=True) == pytest.approx(least, abs=1e-12)
    assert price(0.6, reports=False, low_at_most=0.5) == pytest.approx(0.3, abs=1e-12)
    assert price(0.45, reports=False, low_at_most=0.7) == pytest.approx(0.5, abs=1e-12)
    with pytest.raises(ConfigError) as refused:
        price(0.4, reports=False, low_at_most=0.5)
    assert str(refused.value) == (
        "a load of 40.0% and the bound on missed severe accidents cannot both hold on these "
        "frames: at least 60.0% are sent to the MLLM. Raise --load or --missed-severe, or train a "
        "better gate"
    )
    with pytest.raises(ConfigError) as refused:
        thresholds.fit_budget(p, weight, ~kept, 0.2, Costs(), True)
    assert str(refused.value) == (
        "a load of 20.0% cannot hold on these frames: at least 60.0% are sent to the MLLM. Raise "
        "--load, or train a better gate"
    )


def test_the_cost_of_a_band_and_its_gap_to_a_grid_by_hand() -> None:
    p, weight, costs = np.array([0.2, 0.5, 0.9]), np.array([0.5, 0.3, 0.2]), Costs(2.0, 1.0, 0.1)

    def cost(low: float, high: float | None) -> float:
        return thresholds.expected_cost(p, weight, Band(low, high), 0.1, costs)

    # Dropped 0.4, 1.0, 1.8; asked 0.22, 0.25, 0.29; reported 0.8, 0.5, 0.1.
    assert cost(0.3, 0.8) == pytest.approx(0.5 * 0.4 + 0.3 * 0.25 + 0.2 * 0.1)
    assert cost(0.5, 0.9) == pytest.approx(0.5 * 0.4 + 0.3 * 0.25 + 0.2 * 0.1)  # both at their ends
    assert cost(0.2, None) == pytest.approx(0.5 * 0.22 + 0.3 * 0.25 + 0.2 * 0.29)
    # One step: all asked about or all reported; the band itself asks about the first two.
    gap = thresholds.grid_gap(p, weight, Budget(1.0, 0.1, costs), steps=1)
    ours, grid = 0.5 * 0.22 + 0.3 * 0.25 + 0.2 * 0.1, 0.5 * 0.22 + 0.3 * 0.25 + 0.2 * 0.29
    assert gap == pytest.approx(ours / grid - 1)
    assert thresholds.grid_gap(p, weight, Budget(1.0, 0.1, costs), steps=10) == 0  # 0.1 and 0.8
    dear = Budget(1.0, 0.5, costs)  # no call pays: dropped below a third, reported from there on
    assert thresholds.grid_gap(p, weight, dear, steps=3) == 0
    bound = Budget(1.0, 0.5, costs, low_at_most=0.0)  # its band asks about all, and so does a grid
    assert thresholds.grid_gap(p, weight, bound, reports=False, steps=4) == 0
    free = Budget(1.0, 0.0, Costs())
    assert thresholds.grid_gap(p, weight, free, steps=4) == 0


def test_a_bound_without_severe_frames_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        thresholds.low_bound(np.array([0.5]), np.array([False]), 0.1)
    assert str(refused.value) == (
        "0 validation frames show a severe accident; a bound of 10.0% on missing them takes 29 to "
        "hold with 95% confidence: add some, allow more misses, or leave --missed-severe out"
    )
    with pytest.raises(ConfigError, match="takes 1 to hold"):
        thresholds.low_bound(np.array([0.5]), np.array([False]), 0.0)


def test_the_bound_is_the_order_statistic_that_wilks_gives() -> None:
    p = np.linspace(0.01, 1, 100)[::-1]
    # P(Bin(100, 0.1) <= 4) = 0.024, <= 5: 0.058.
    assert thresholds.low_bound(p, np.ones(100, bool), 0.1) == pytest.approx(0.05)
    assert thresholds.low_bound(p, p > 0.5, 0.1) == pytest.approx(0.52)  # 50: <= 1 is 0.034
    assert thresholds.low_bound(p, p > 0.5, 0.0) == 0.0
    assert thresholds.low_bound(p, p > 2, 1.0) == 1.0


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
