"""Fitted thresholds in a world whose probabilities are known."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from dat_runtime.cascade import (
    PAPER,
    Band,
    Budget,
    Costs,
    LoadController,
    Logistic,
    Routing,
    Signal,
)
from dat_runtime.errors import ConfigError
from eval.routing import fitting, probabilities, thresholds
from eval.routing.fitting import Wanted
from eval.routing.load_curve import curves, error_of
from eval.routing.probabilities import Scored
from tests.eval.routing.world import world


def test_the_mllms_error_is_measured_anew_in_each_resample() -> None:
    frames = world(300)
    drawn: list[float] = []

    def error(of: Scored) -> float:
        drawn.append(error_of(of))
        return drawn[-1]

    curves(frames, world(300, seed=1), "platt", error, resamples=5)
    assert drawn[0] == error_of(frames)
    assert len(set(drawn)) > 2
    assert fitting.mllm_error(Wanted(mllm_error=0.2), frames) == 0.2
    assert fitting.mllm_error(Wanted(), frames) == error_of(frames)


@pytest.mark.parametrize("policy", thresholds.POLICIES)
@pytest.mark.parametrize("load", [0.1, 0.3, 0.5])
def test_the_load_on_other_frames_is_near_the_budget(policy: str, load: float) -> None:
    frames, others = world(4000), world(4000, seed=1)
    routing = fitting.fitted(0.0, frames, "platt", Wanted(policy, load), 0.0)
    assert fitting.rates(routing, frames, None).load <= load + 1 / 4000
    assert fitting.rates(routing, others, None).load == pytest.approx(load, abs=0.02)


@pytest.mark.parametrize("policy", thresholds.POLICIES)
@pytest.mark.parametrize("share", [0.3, 0.01, 0.001])
def test_the_controller_holds_the_load_and_drops_no_more_accidents_however_rare_they_are(
    policy: str, share: float
) -> None:
    wanted = Wanted(policy, 0.1, accident_share=share)
    routing = fitting.fitted(0.0, world(4000), "platt", wanted, 0.0)
    frames, rng = world(20_000, seed=1), np.random.default_rng(0)
    shows = rng.uniform(size=12_000) < share
    kinds = (np.flatnonzero(~frames.accident), np.flatnonzero(frames.accident))
    stream = frames.score[np.where(shows, *(rng.choice(kinds[k], 12_000) for k in (1, 0)))]
    controller = LoadController(routing)
    held = np.array([controller.decide(float(score)) for score in stream])
    fixed = np.array([routing.decide(float(score)) for score in stream])
    assert np.mean(held == "ask") == pytest.approx(0.1, abs=0.005)
    assert np.mean(held[shows] == "drop") <= np.mean(fixed[shows] == "drop") + 0.05


def test_a_load_for_rare_accidents_holds_where_accidents_are_rare() -> None:
    frames, others = world(4000), world(40_000, seed=1)
    wanted = Wanted("band", 0.1, accident_share=0.02)
    routing = fitting.fitted(0.0, frames, "platt", wanted, 0.0)
    assert fitting.rates(routing, frames, 0.02).load == pytest.approx(0.1, abs=0.001)
    assert fitting.rates(routing, others, 0.02).load == pytest.approx(0.1, abs=0.02)
    for_many = fitting.fitted(0.0, frames, "platt", Wanted("trigger", 0.5), 0.0)
    assert abs(fitting.rates(for_many, others, 0.02).load - 0.5) > 0.1, "any threshold would do"


def test_the_bound_on_missed_severe_accidents_holds() -> None:
    frames = world(2000)
    for missed in (0.0, 0.02, 0.1):
        wanted = Wanted("band", 0.6, missed)
        rates = fitting.rates(fitting.fitted(0.0, frames, "platt", wanted, 0.0), frames, None)
        assert rates.missed_severe <= missed


def test_a_bound_and_a_load_that_exclude_each_other_are_refused_with_what_is_possible() -> None:
    with pytest.raises(ConfigError, match=r"at least .* are sent to the MLLM. Raise --load"):
        fitting.fitted(0.0, world(2000), "platt", Wanted("trigger", 0.1, 0.0), 0.0)


def test_a_load_that_cannot_hold_without_any_bound_is_refused_without_a_word_of_bounds() -> None:
    frames = world(2000)
    with pytest.raises(ConfigError, match=r"a load of 0.0% cannot hold .* Raise --load, or"):
        fitting.fitted(1.0, frames, "platt", Wanted("band", 0.0), 0.0)


def test_probabilities_of_test_frames_come_from_a_fit_to_validation_frames_alone() -> None:
    validation, test = world(400), world(400, seed=1, spread=3.0)
    stated = fitting.calibrated(validation, test, "platt")
    p = probabilities.fit("platt", validation)(test.score, test.signals)
    assert stated["test"] == asdict(probabilities.reliability(p, test.accident))


SIX = Scored(
    score=np.array([0.9, 0.8, 0.6, 0.4, 0.2, 0.1]),
    accident=np.array([True, False, True, True, False, False]),
    severe=np.array([True, False, False, True, False, False]),
    signals={"sound": np.array([0.5, 0.01, 0.5, 0.5, 0.5, 0.99])},
    mllm_reports=np.array([True, False, True, True, False, True]),
)


def test_the_rates_of_six_frames_by_hand() -> None:
    # Reported, reported, asked, and three dropped.
    routing = Routing(0.25, Band(0.5, 0.7))
    found = fitting.rates(routing, SIX, None)
    assert found == pytest.approx((1 / 6, 1 / 3, 1 / 2, 1 / 2, 2 / 3, 2 / 3, 5 / 6))
    rare = fitting.rates(routing, SIX, 0.25)  # a frame with an accident weighs 1/12, others 1/4
    assert rare == pytest.approx((1 / 12, 1 / 3, 1 / 4, *found[3:]))
    # What the gate reports alone: from the band on, or what costs less to report.
    costs = Budget(0.1, 0.1, Costs(miss=3.0, false_alarm=1.0))
    for other in (replace(routing, band=Band(0.4, 0.7)), replace(routing, budget=costs)):
        assert fitting.rates(other, SIX, None).gate_alone == pytest.approx(5 / 6)


def test_a_frame_at_an_end_of_the_band_or_at_the_gates_threshold_counts_as_inside() -> None:
    def shares(keep: float, low: float, high: float) -> tuple[float, float]:
        return fitting.rates(Routing(keep, Band(low, high)), SIX, None)[:2]

    assert shares(0.25, 0.8, 0.8) == pytest.approx((0, 1 / 3))
    assert shares(0.8, 0.6, 0.7) == pytest.approx((1 / 6, 1 / 3))
    assert shares(0.81, 0.6, 0.7) == pytest.approx((1 / 3, 1 / 6))  # nothing to report in 0.8


def test_rates_are_of_calibrated_probabilities_and_signals() -> None:
    fused = Logistic(1.0, 0.0, {"sound": Signal(1.0)})  # 0.8 becomes 0.04, 0.1 becomes 0.92
    found = fitting.rates(Routing(0.25, Band(0.5, 0.7), fused), SIX, None)
    # Reported, dropped, asked, dropped, dropped, and asked: no detection to report.
    assert found[:5] == pytest.approx((1 / 3, 1 / 6, 1, 1 / 2, (2 / 3 + 2 / 3) / 2))


def test_rates_of_what_is_not_there_are_undefined() -> None:
    bare = replace(SIX, severe=np.zeros(6, bool), mllm_reports=None)
    found = fitting.rates(Routing(), bare, None)
    undefined = [name for name, value in zip(fitting.RATES, found, strict=True) if np.isnan(value)]
    assert undefined == ["report_precision", "missed_severe", "balanced_accuracy", "mllm_alone"]
    assert fitting.mllm_error(Wanted(), bare) == 0.0


def test_what_is_wanted_gives_the_share_and_the_costs() -> None:
    assert Wanted().share(SIX) == 0.5
    assert Wanted(accident_share=0.1).share(SIX) == 0.1
    assert Wanted("entropy", miss_cost=3.0).costs(0.1, 0.2) == Costs(1.0, 1.0, 0.2)
    assert Wanted("band", miss_cost=3.0).costs(0.1, 0.2) == Costs(3.0, 1.0, 0.2)
    assert Wanted("band").costs(0.2, 0.1) == Costs(2.5, 0.625, 0.1)
    assert fitting.fitted(0.3, SIX, "platt", Wanted(), 0.0) == Routing(0.3, PAPER)


def test_only_a_fitted_routing_has_a_gap_to_a_grid() -> None:
    for routing in (
        Routing(),
        Routing(calibration=Logistic(1.0)),
        Routing(budget=Budget(1, 0, Costs())),
    ):
        with pytest.raises(ValueError, match=r"^expected a fitted routing$"):
            fitting.grid_gap(routing, SIX, None)
    same = Logistic(1.0)
    for band, reports in ((Band(0.3, 0.7), True), (Band(0.3, None), False)):
        routing = Routing(0.25, band, same, Budget(1.0, 0.3, Costs(2.0), low_at_most=0.1))
        weight = thresholds.weights(SIX.accident, 0.2)
        expected = thresholds.grid_gap(SIX.score, weight, routing.budget, reports)
        assert fitting.grid_gap(routing, SIX, 0.2) == pytest.approx(expected, rel=1e-9)


def test_the_report_of_a_calibration_compares_both_parts_and_the_bare_scores() -> None:
    validation, test = world(400), world(400, seed=1, spread=3.0)
    stated = fitting.calibrated(validation, test, "platt")
    crossed = probabilities.cross_fitted("platt", validation)
    assert stated["method"] == "platt"
    assert stated["val"] == asdict(probabilities.reliability(crossed, validation.accident))
    bare = probabilities.reliability(test.score, test.accident)
    assert stated["test_uncalibrated"] == asdict(bare)


def test_measured_rates_lie_in_intervals_of_the_binomials_width() -> None:
    frames, test = world(300), world(400, seed=1)
    routing = Routing(0.25)
    measured = fitting.measured(routing, frames, test, "platt", Wanted())
    values = fitting.rates(routing, test, None)._asdict()
    assert list(measured) == [
        *(name for name in fitting.RATES if not np.isnan(values[name])),
        *("resamples", "refused"),
    ]
    assert (measured["resamples"], measured["refused"]) == (fitting.RESAMPLES, 0)
    assert {name: measured[name]["value"] for name in values if name in measured} == {
        name: value for name, value in values.items() if name in measured
    }
    load = measured["load"]
    assert load["low"] < load["value"] < load["high"]
    spread = 2 * 1.96 * (load["value"] * (1 - load["value"]) / 400) ** 0.5
    assert 0.6 * spread < load["high"] - load["low"] <= 1.2 * spread  # both kinds are kept


def test_where_nothing_can_be_fitted_the_interval_is_the_value_and_says_so() -> None:
    few = SIX.take(np.array([0, 1, 2, 3]))
    measured = fitting.measured(Routing(0.25), few, SIX, "platt", Wanted("band", 0.3))
    assert (measured["resamples"], measured["refused"]) == (0, fitting.RESAMPLES)
    assert measured["load"] == {"value": 4 / 6, "low": 4 / 6, "high": 4 / 6}


def test_measured_rates_are_for_the_share_of_accidents_that_is_wanted() -> None:
    wanted = Wanted(accident_share=0.1)
    load = fitting.measured(Routing(0.25), SIX, SIX, "platt", wanted)["load"]
    # All accidents are asked about, and of three other frames one, in some resamples none.
    assert (load["value"], load["low"]) == pytest.approx((0.1 + 0.9 / 3, 0.1))
