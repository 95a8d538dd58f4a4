import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.cascade import (
    Band,
    Budget,
    Costs,
    Isotonic,
    LoadController,
    Logistic,
    Routing,
    Signal,
    cost_band,
    logit,
)

costs = st.builds(
    Costs,
    miss=st.floats(0.1, 10),
    false_alarm=st.floats(0.1, 10),
    mllm_error=st.floats(0, 0.4),
)


def expected_costs(p: float, price: float, c: Costs) -> dict[str, float]:
    """By definition: what each of the three ways costs at probability p."""
    return {
        "drop": p * c.miss,
        "report": (1 - p) * c.false_alarm,
        "ask": price + c.mllm_error * (p * c.miss + (1 - p) * c.false_alarm),
    }


def test_the_default_is_the_papers_rule() -> None:
    routing = Routing()
    assert [routing.decide(s) for s in (0.0, 0.2499, 0.25, 1.0)] == ["drop", "drop", "ask", "ask"]


def test_a_band_drops_below_asks_inside_and_reports_above() -> None:
    routing = Routing(0.25, Band(0.2, 0.7))
    assert [routing.decide(p) for p in (0.1, 0.2, 0.69, 0.7)] == ["drop", "ask", "ask", "report"]


def test_a_frame_without_a_kept_detection_is_asked_about_rather_than_reported() -> None:
    sound = Logistic(1.0, 0.0, {"sound": Signal(3.0)})
    routing = Routing(0.25, Band(0.2, 0.7), sound)
    assert routing.probability(0.2, {"sound": 0.99}) > 0.7
    assert routing.decide(0.2, {"sound": 0.99}) == "ask"
    assert routing.decide(0.25, {"sound": 0.99}) == "report"
    assert routing.decide(0.2499, {"sound": 0.99}) == "ask"


@given(costs, st.floats(0, 1), st.floats(0, 1))
def test_the_closed_form_takes_the_cheapest_way_for_every_probability(
    c: Costs, share: float, p: float
) -> None:
    price = share * c.highest_useful_price(reports=True)
    routing = Routing(0.0, Budget(1, price, c).band(price, reports=True))
    known = expected_costs(p, price, c)
    assert known[routing.decide(p)] <= min(known.values()) + 1e-9


@given(costs, st.floats(0, 1))
def test_from_the_highest_useful_price_on_the_gate_decides_alone(c: Costs, p: float) -> None:
    dear = 1.001 * c.highest_useful_price(reports=True) + 1e-9
    assert Routing(0.0, Budget(1, dear, c).band(dear, reports=True)).decide(p) != "ask"
    low, high = cost_band(c.highest_useful_price(reports=True), c)
    assert low == pytest.approx(high) == pytest.approx(c.indifferent)


def test_without_reports_the_highest_useful_price_asks_about_nothing_below_certainty() -> None:
    c = Costs(2.0, 1.0, 0.1)
    assert cost_band(c.highest_useful_price(reports=False), c)[0] == pytest.approx(1.0)


def test_the_lower_bound_holds_whatever_the_price() -> None:
    budget = Budget(0.1, 0, Costs(), low_at_most=0.1)
    for price in (0.0, 0.2, 0.5, 3.0):
        for reports in (True, False):
            assert 0 <= budget.band(price, reports).low <= 0.1


def test_a_platt_calibration_is_the_logistic_of_the_logit() -> None:
    p = float(Logistic(0.5, -1.0)(0.8, {}))
    assert p == pytest.approx(1 / (1 + math.exp(-(0.5 * math.log(4) - 1))))


def test_a_frame_without_a_detection_has_a_probability_too() -> None:
    assert 0 < float(Logistic(1.0, 0.0)(0.0, {})) < 0.01
    assert np.isfinite(logit([0.0, 1.0])).all()


def test_scores_of_single_precision_are_calibrated_in_double() -> None:
    single = np.array([0.3, 0.7], np.float32)
    assert logit(single).tolist() == logit(single.tolist()).tolist()


def test_weights_however_large_give_probabilities_without_a_warning() -> None:
    steep = Logistic(1e9, -1e9, {"sound": Signal(1e9, -1e9)})
    assert steep([0.0, 1.0], {}).tolist() == pytest.approx([0, 1])


def test_a_missing_signal_counts_with_its_own_term() -> None:
    fused = Logistic(1.0, 0.0, {"sound": Signal(2.0, -0.5)})
    alone = float(logit(0.6))
    assert float(logit(fused(0.6, {"sound": 0.7}))) == pytest.approx(alone + 2 * float(logit(0.7)))
    for signals in ({}, {"sound": float("nan")}):
        assert float(logit(fused(0.6, signals))) == pytest.approx(alone - 0.5)


def test_an_isotonic_calibration_is_flat_outside_its_knots() -> None:
    p = Isotonic((0.2, 0.6), (0.1, 0.9))(np.array([0.0, 0.4, 1.0]), {})
    assert p == pytest.approx([0.1, 0.5, 0.9])


def share_asked(controller: LoadController, scores: np.ndarray) -> float:
    return float(np.mean([controller.decide(float(s)) == "ask" for s in scores]))


@pytest.mark.parametrize("reports", [True, False])
def test_the_load_returns_to_the_budget_when_scores_drift(reports: bool) -> None:
    rng = np.random.default_rng(0)
    held = Budget(load=0.3, price=0.2, costs=Costs())
    routing = Routing(0.0, held.band(0.2, reports), budget=held)
    controller = LoadController(routing)
    for a, b in ((1, 4), (2, 2), (5, 1)):  # nights, days, and a lens that fogs up
        share_asked(controller, rng.beta(a, b, 2000))
        scores = rng.beta(a, b, 10_000)
        assert share_asked(controller, scores) == pytest.approx(0.3, abs=0.02)
        fixed = np.mean([routing.decide(float(s)) == "ask" for s in scores])
        if (a, b) == (5, 1) and not reports:
            assert abs(fixed - 0.3) > 0.02, "the scores hardly drift: the test shows nothing"


def test_a_budget_larger_than_what_is_worth_asking_is_not_filled() -> None:
    held = Budget(load=0.9, price=0.0, costs=Costs(mllm_error=0.3))
    controller = LoadController(Routing(0.0, held.band(0, True), budget=held))
    asked = share_asked(controller, np.random.default_rng(0).uniform(size=5000))
    assert asked == pytest.approx(0.4, abs=0.03)  # the band [0.3, 0.7) of a price of nothing
    assert controller.price == 0


def test_the_bound_on_missed_severe_accidents_outlasts_any_load() -> None:
    held = Budget(0.05, 0.1, Costs(), low_at_most=0.3)
    controller = LoadController(Routing(0.0, held.band(0.1, True), budget=held))
    decisions = [controller.decide(0.35) for _ in range(500)]
    assert "drop" not in decisions


@pytest.mark.parametrize(("day", "price", "then"), [(0.35, 0.9, 0.0), (0.0, 0.0, 0.35)])
def test_a_day_at_an_end_of_the_prices_is_forgotten_in_minutes(
    day: float, price: float, then: float
) -> None:
    # Whatever the price, 0.35 is asked about and 0 is not.
    held = Budget(0.5, 0.1, Costs(mllm_error=0.1), low_at_most=0.3)
    controller = LoadController(Routing(0.0, held.band(0.1, False), budget=held))
    for _ in range(3_000):
        controller.decide(day)
    assert controller.price == pytest.approx(price)
    for _ in range(500):  # log-odds of 12 to the middle, 0.025 a frame
        controller.decide(then)
    assert abs(controller.price - price) > 0.5


@pytest.mark.parametrize(("reports", "highest"), [(True, 0.5), (False, 1.0)])
def test_a_controller_begins_at_the_price_of_its_budget(reports: bool, highest: float) -> None:
    def first(price: float) -> float:
        held = Budget(0.3, price, Costs())
        return LoadController(Routing(0.0, held.band(price, reports), budget=held)).price

    for price in (0.0, 0.001, 0.2, 0.25, highest):
        assert first(price) == pytest.approx(price, abs=1e-12)
    assert first(1.5 * highest) == highest


def test_each_frame_moves_the_log_odds_of_the_price_by_its_step() -> None:
    held = Budget(load=0.3, price=0.25, costs=Costs())  # in the middle of the prices: odds of 0
    routing = Routing(0.0, Band(0.25, 0.75), Logistic(1.0, 0.0, {"sound": Signal(3.0)}), held)
    controller = LoadController(routing)
    assert controller.decide(0.5) == "ask"
    assert controller.price == pytest.approx(0.5 / (1 + math.exp(-0.05 * 0.7)), abs=1e-7)
    assert controller.decide(0.5, {"sound": 0.99}) == "report"
    assert controller.price == pytest.approx(0.5 / (1 + math.exp(-0.05 * 0.4)), abs=1e-7)


def test_a_controller_without_a_budget_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^expected a routing with a budget$"):
        LoadController(Routing())
