"""Calibration in a world whose probabilities are known."""

from dataclasses import replace

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
    log_loss,
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


def two_signals(n: int = 300) -> Scored:
    """Frames with a signal that is missing half of the time, and one that never is."""
    frames = world(n, sound=True)
    speed = np.clip(np.where(frames.accident, 0.6, 0.4) + np.linspace(-0.3, 0.3, n), 0, 1)
    both = {**frames.signals, "speed": speed}
    return Scored(frames.score, frames.accident, frames.severe, both, frames.mllm_reports, 7)


def test_platt_is_where_the_penalised_likelihood_of_score_and_signals_is_highest() -> None:
    frames = two_signals()
    fused = fit("platt", frames)
    excess = fused(frames.score, frames.signals) - frames.accident
    sound, speed = frames.signals["sound"], frames.signals["speed"]
    missing = np.isnan(sound)
    columns = {
        fused.weight: logit(frames.score),
        fused.signals["sound"].weight: np.where(missing, 0, logit(np.nan_to_num(sound, nan=0.5))),
        fused.signals["sound"].missing: missing,
        fused.signals["speed"].weight: logit(speed),
    }
    assert excess.sum() == pytest.approx(0, abs=0.03)
    for weight, column in columns.items():
        assert excess @ column == pytest.approx(-weight / 100, abs=0.03)  # C = 100
    silent = fused(frames.score, {"sound": sound})
    assert silent.mean() == pytest.approx(frames.accident.mean(), abs=1e-3)


def test_frames_that_a_score_separates_do_not_make_it_surer_than_the_penalty_lets_it() -> None:
    score = np.linspace(0.2, 0.8, 24)
    frames = Scored(score, score > 0.5, score > 0.5, {})
    sure = fit("platt", frames)
    assert isinstance(sure, Logistic)
    pull = (sure(score, {}) - frames.accident) @ logit(score)
    assert sure.weight == pytest.approx(-100 * pull, rel=0.005)


def test_temperature_is_where_the_likelihood_is_highest() -> None:
    frames = world(300)
    excess = fit("temperature", frames)(frames.score, {}) - frames.accident
    assert excess @ logit(frames.score) == pytest.approx(0, abs=0.01)


def test_isotonic_probabilities_are_kept_from_the_ends() -> None:
    score = np.linspace(0.2, 0.8, 24)
    assert fit("isotonic", Scored(score, score > 0.5, score > 0.5, {}))([0, 1], {}).tolist() == [
        0.005,
        0.995,
    ]


def test_frames_are_taken_with_all_that_is_known_of_each() -> None:
    frames = two_signals(40)
    taken = frames.take([3, 1])
    for name in ("score", "accident", "severe", "mllm_reports"):
        assert getattr(taken, name).tolist() == getattr(frames, name)[[3, 1]].tolist()
    assert taken.signals["speed"].tolist() == frames.signals["speed"][[3, 1]].tolist()
    assert (taken.failed, len(taken)) == (0, 2)
    unasked = Scored(frames.score, frames.accident, frames.severe, {})
    assert unasked.take([0]).mllm_reports is None


def test_reliability_by_hand() -> None:
    p = np.array([0.25] * 16 + [0.75] * 16)
    accident = np.array([False] * 14 + [True] * 2 + [True] * 16)
    found = reliability(p, accident)
    assert found.bins == ((0.25, 0.125, 16), (0.75, 1.0, 16))
    assert found.ece == pytest.approx((0.125 + 0.25) / 2)
    assert found.brier == pytest.approx((30 * 0.25**2 + 2 * 0.75**2) / 32)
    assert found.log_loss == pytest.approx(-(30 * np.log(0.75) + 2 * np.log(0.25)) / 32)
    assert reliability(p, accident) == found  # the labels drawn from p are the same ones
    assert [size for _, _, size in reliability(p[:29], accident[:29]).bins] == [29]
    # Frames of equal p stay in their order.
    p, accident = np.tile([0.5, 0.25], 100), np.arange(200) % 12 < np.arange(200) // 18
    rising = sorted(range(200), key=p.__getitem__)
    shares = [accident[rising[at : at + 20]].mean() for at in range(0, 200, 20)]
    assert [share for _, share, _ in reliability(p, accident).bins] == shares


def test_one_label_against_certainty_costs_much_but_not_without_end() -> None:
    certain, against = np.array([0.0, 1.0]), np.array([True, False])
    assert log_loss(certain, against) == pytest.approx(-np.log(1e-12), rel=1e-4)


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
    assert np.array_equal(honest, cross_fitted("isotonic", frames))
    # Also of frames whose signals are fused, as only Platt's method does.
    both = two_signals(200)
    assert choose(both) == "platt"
    assert log_loss(cross_fitted("platt", both), both.accident) < log_loss(
        cross_fitted("platt", Scored(both.score, both.accident, both.severe, {})), both.accident
    )


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
    ten = np.concatenate([np.flatnonzero(frames.accident)[:10], np.flatnonzero(~frames.accident)])
    fit("platt", frames.take(ten))
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
    flat = Scored(np.full(500, 0.5), frames.accident, frames.severe, {})
    with pytest.raises(DataError, match="do not rise"):
        fit(method, flat)


def test_scores_that_rise_but_mislead_beside_a_signal_are_refused() -> None:
    rng = np.random.default_rng(0)
    truth, noise = rng.normal(0, 2, 400), rng.normal(0, 1, 400)
    score, heard = (1 / (1 + np.exp(-odds)) for odds in (0.2 * truth + noise, truth + noise))
    frames = Scored(score, truth > 0, truth > 0, {"sound": heard})
    fit("platt", replace(frames, signals={}))
    with pytest.raises(DataError, match="do not rise"):
        fit("platt", frames)


@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_shifted_probabilities_fit_another_share_of_accidents(method: str, share: float) -> None:
    frames, others = world(8000), world(40_000, seed=1)
    weight = thresholds.weights(others.accident, share)
    moved = shifted(fit(method, frames), float(frames.accident.mean()), share)
    said = moved(others.score, {})
    assert float(weight @ said) == pytest.approx(share, rel=0.15)


def test_what_is_no_calibration_of_ours_is_not_shifted() -> None:
    with pytest.raises(TypeError, match=r"^cannot shift a function$"):
        shifted(lambda score, signals: np.asarray(score), 0.5, 0.1)


def test_an_isotonic_and_a_logistic_calibration_rise() -> None:
    frames = world(500)
    for method, kind in (("isotonic", Isotonic), ("platt", Logistic)):
        calibration = fit(method, frames)
        assert isinstance(calibration, kind)
        assert (np.diff(calibration(np.linspace(0, 1, 50), {})) >= 0).all()
    assert np.isfinite(logit(0.0))
