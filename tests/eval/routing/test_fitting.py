"""Fitted thresholds in a world whose probabilities are known."""

from dataclasses import asdict

import numpy as np
import pytest

from dat_runtime.cascade import LoadController
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
