"""Calibration in a world whose probabilities are known."""

import numpy as np
import pytest

from dat_runtime.cascade import Isotonic, Logistic, Signal, logit
from dat_runtime.errors import DataError
from eval.routing import thresholds
from eval.routing.probabilities import (
    METHODS,
    Scored,
    choose,
    cross_fitted,
    fit,
    reliability,
    shifted,
)
from tests.eval.routing.world import world


@pytest.mark.parametrize("method", METHODS)
def test_calibration_turns_scores_into_frequencies(method: str) -> None:
    others = world(6000, seed=1)
    before = reliability(others.score, others.accident).ece
    p = fit(method, world(6000))(others.score, {})
    after = reliability(p, others.accident)
    assert before > 0.08
    # Temperature cannot move the middle, where this world's scores are off too.
    assert after.ece <= (0.03 if method != "temperature" else before)
    assert after.brier < np.mean((others.score - others.accident) ** 2)


def test_the_method_that_fits_is_chosen() -> None:
    frames = world(3000)
    assert choose(frames) == "platt"
    bent = Scored(
        np.where(frames.score > 0.5, 0.5 + frames.score / 1e3, frames.score / 1e3),
        frames.accident,
        frames.severe,
        {},
    )
    assert choose(bent) == "isotonic"


def test_cross_fitted_probabilities_come_from_other_frames() -> None:
    frames = world(400)
    lucky = fit("isotonic", frames)(frames.score, {})
    honest = cross_fitted("isotonic", frames)
    seen, unseen = (reliability(p, frames.accident).brier for p in (lucky, honest))
    assert seen < unseen


def test_the_expected_ece_is_that_of_perfect_probabilities() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=300)
    shown = [reliability(p, rng.uniform(size=300) < p).ece for _ in range(50)]
    expected = reliability(p, rng.uniform(size=300) < p).expected
    assert np.mean(shown) == pytest.approx(expected, rel=0.1)


def test_a_second_signal_helps_also_when_it_is_missing_half_of_the_time() -> None:
    frames, others = world(4000, sound=True), world(4000, seed=1, sound=True)
    fused = fit("platt", frames)
    visual = fit("platt", Scored(frames.score, frames.accident, frames.severe, {}))
    seen = reliability(visual(others.score, {}), others.accident)
    both = reliability(fused(others.score, others.signals), others.accident)
    assert both.log_loss < seen.log_loss - 0.05
    assert both.ece <= 0.03
    silent = fused(others.score, {})
    unheard = np.isnan(others.signals["sound"])
    assert reliability(silent[unheard], others.accident[unheard]).ece <= 0.04


def test_frames_of_one_kind_are_too_few_to_calibrate() -> None:
    frames = world(200)
    with pytest.raises(DataError, match="at least 10 with and 10 without"):
        fit("platt", frames.take(np.flatnonzero(frames.accident)))


def test_frames_too_few_for_every_fold_are_too_few_to_choose_a_method() -> None:
    frames = world(200)
    few = np.concatenate([np.flatnonzero(frames.accident)[:12], np.flatnonzero(~frames.accident)])
    fit("platt", frames.take(few))
    with pytest.raises(DataError, match=r"12 of .* at least 13 with and 13 without"):
        choose(frames.take(few))


def test_silence_of_a_signal_that_was_never_missing_leaves_p_right_on_average() -> None:
    def loud(seed: int) -> Scored:
        frames = world(4000, seed)
        rng = np.random.default_rng(100 + seed)
        heard = rng.normal(np.where(frames.accident, 2.5, -0.5), 1.0)
        return Scored(
            frames.score, frames.accident, frames.severe, {"sound": 1 / (1 + np.exp(-heard))}
        )

    fused, others = fit("platt", loud(0)), loud(1)
    assert reliability(fused(others.score, {}), others.accident).ece <= 0.04
    assert isinstance(fused, Logistic)
    unfitted = Logistic(fused.weight, fused.bias, {"sound": Signal(1.0)})
    assert reliability(unfitted(others.score, {}), others.accident).ece > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_fall_with_accidents_are_refused(method: str) -> None:
    frames = world(500)
    wrong = Scored(1 - frames.score, frames.accident, frames.severe, {})
    with pytest.raises(DataError, match="do not rise"):
        fit(method, wrong)


@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_shifted_probabilities_fit_another_share_of_accidents(method: str, share: float) -> None:
    frames, others = world(8000), world(40_000, seed=1)
    weight = thresholds.weights(others.accident, share)
    moved = shifted(fit(method, frames), float(frames.accident.mean()), share)
    said = moved(others.score, {})
    assert float(weight @ said) == pytest.approx(share, rel=0.15)


def test_an_isotonic_and_a_logistic_calibration_rise() -> None:
    frames = world(500)
    for method, kind in (("isotonic", Isotonic), ("platt", Logistic)):
        calibration = fit(method, frames)
        assert isinstance(calibration, kind)
        assert (np.diff(calibration(np.linspace(0, 1, 50), {})) >= 0).all()
    assert np.isfinite(logit(0.0))
