"""The curve of quality against load in a world whose probabilities are known."""

import math

import numpy as np
import pytest

from dat_runtime.cascade import Costs
from eval.routing import fitting, thresholds
from eval.routing.fitting import Wanted
from eval.routing.load_curve import LOADS, ROUTINGS, curves, error_of, resampled
from eval.routing.probabilities import Scored, fit
from tests.eval.routing.world import MLLM_ERROR, world


@pytest.mark.slow
def test_uncertainty_routing_beats_random_and_top_score_and_costs_little_quality() -> None:
    validation, test = world(1500, spread=4), world(1500, seed=1, spread=4)
    measured = curves(validation, test, "platt", error_of, resamples=60)
    third = int(np.argmin(abs(LOADS - 0.3)))
    for other in ("random", "top_score"):
        gain = measured.drawn["band"][:, third] - measured.drawn[other][:, third]
        assert np.percentile(gain, 2.5) > 0
    lost = measured.drawn["band"][:, -1] - measured.drawn["band"][:, third]
    assert np.percentile(lost, 97.5) <= 0.01


def test_the_ends_of_the_curve_are_the_gate_alone_and_the_mllm_alone() -> None:
    validation, test = world(800), world(800, seed=1)
    measured = curves(validation, test, "platt", error_of, resamples=2)
    calibration = fit("platt", validation)
    costs = thresholds.balanced_costs(float(validation.accident.mean()), 0)
    alone = calibration(test.score, {}) >= costs.indifferent
    for name in ("band", "entropy", "top_score", "random"):
        assert measured.quality[name][0] == balanced(alone, test.accident)
        assert measured.quality[name][-1] == balanced(test.mllm_reports, test.accident)
        assert (measured.load[name][0], measured.load[name][-1]) == (0, 1)
    routing = fitting.fitted(0.0, validation, "platt", Wanted("band", 0.3), MLLM_ERROR)
    gate_alone, mllm_alone = fitting.rates(routing, test, None)[5:]
    assert (gate_alone, mllm_alone) == (measured.quality["band"][0], measured.quality["band"][-1])
    assert measured.quality["trigger"][0] == 0.5


FEW = 30
"""Of so few no load but 0 and 1 falls on a frame: (FEW - 1) * load is never whole in between."""


def few() -> Scored:
    """Frames of different scores, some of the wrong kind; the MLLM is wrong about four."""
    score = np.linspace(0.02, 0.98, FEW)
    accident = (score > 0.55) ^ (np.arange(FEW) % 7 == 3)
    return Scored(score, accident, accident, {}, accident ^ (np.arange(FEW) % 8 == 5))


def by_hand(name: str, test: Scored, p: np.ndarray, costs: Costs) -> list[float]:
    """Balanced accuracy at each load where the frames of highest rank are asked about."""
    worth = {
        "band": [min(x * costs.miss, (1 - x) * costs.false_alarm)
                 - costs.mllm_error * (x * costs.miss + (1 - x) * costs.false_alarm) for x in p],
        "entropy": [-abs(x - 0.5) for x in p],
    }.get(name, list(p))  # fmt: skip
    first = sorted(range(FEW), key=lambda i: -worth[i])
    found = []
    for load in LOADS:
        asked = first[: FEW if load == 1 else math.ceil((FEW - 1) * load - 1e-9)]
        said = np.array([name != "trigger" and x >= costs.indifferent for x in p])
        said[asked] = test.mllm_reports[asked]
        found.append(balanced(said, test.accident))
    return found


@pytest.mark.parametrize("name", ["band", "entropy", "top_score", "trigger"])
def test_the_frames_of_highest_rank_are_asked_about_and_the_gate_decides_the_others(
    name: str,
) -> None:
    frames = few()
    measured = curves(frames, frames, "platt", error_of, resamples=0)
    counts = [math.ceil((FEW - 1) * load - 1e-9) for load in LOADS[:-1]]
    assert measured.load[name] == pytest.approx([*(count / FEW for count in counts), 1])
    p = fit("platt", frames)(frames.score, {})
    costs = thresholds.balanced_costs(float(frames.accident.mean()), 4 / FEW)
    assert measured.quality[name] == pytest.approx(by_hand(name, frames, p, costs))


def test_a_load_is_that_of_the_validation_frames_and_any_frames_are_asked_about_by_chance() -> None:
    validation, test = world(2000), world(2000, seed=1)
    frames = few()
    measured = curves(validation, test, "platt", error_of, resamples=0)
    assert measured.load["random"] == pytest.approx(LOADS, abs=0.04)
    alone, asked = measured.quality["random"][[0, -1]]
    assert measured.quality["random"] == pytest.approx(alone + LOADS * (asked - alone), abs=0.03)
    # More suspicious frames than validation held: all of them rank highest.
    sure = Scored(np.full(20, 0.999), np.arange(20) < 10, np.arange(20) < 10, {}, np.ones(20, bool))
    assert curves(frames, sure, "platt", error_of, 0).load["trigger"][:2].tolist() == [0, 1]


def test_a_resample_holds_as_many_frames_of_each_kind_and_each_with_its_own_answer() -> None:
    frames = world(60)
    drawn = resampled(frames, np.random.default_rng(3))
    assert len(drawn) == 60
    assert drawn.accident.sum() == frames.accident.sum()
    kept, again = (
        set(zip(f.score, f.accident, f.mllm_reports, strict=True)) for f in (frames, drawn)
    )
    assert again < kept


def test_every_resample_fits_anew_on_validation_frames_alone_and_the_draws_are_the_same() -> None:
    validation, test = world(60), world(200, seed=1)
    errors = []

    def error(frames: Scored) -> float:
        errors.append((len(frames), error_of(frames)))
        return error_of(frames)

    measured = curves(validation, test, "platt", error, resamples=3)
    assert [count for count, _ in errors] == [60] * 4
    assert errors[0][1] == error_of(validation)
    assert len({value for _, value in errors}) > 1
    for name in ROUTINGS:
        assert measured.drawn[name].shape == (3, len(LOADS))
        assert not np.array_equal(measured.drawn[name][0], measured.drawn[name][1])
        ends = measured.drawn[name][:, -1]  # the MLLM alone: right about most of any frames
        assert (abs(ends - measured.quality[name][-1]) < 0.1).all()
        assert len(set(ends)) > 1
    again = curves(validation, test, "platt", error_of, resamples=3)
    for name in ROUTINGS:
        assert np.array_equal(measured.drawn[name], again.drawn[name])
        assert np.array_equal(measured.load[name], again.load[name])
    temperature = curves(validation, test, "temperature", error_of, resamples=3)
    assert not np.array_equal(measured.drawn["band"], temperature.drawn["band"])


def test_frames_are_ranked_by_all_their_signals() -> None:
    validation, test = world(400, sound=True), world(400, seed=1, sound=True)
    calibration = fit("platt", validation)
    costs = thresholds.balanced_costs(float(validation.accident.mean()), 0)
    alone = calibration(test.score, test.signals) >= costs.indifferent
    measured = curves(validation, test, "platt", error_of, resamples=0)
    assert measured.quality["band"][0] == balanced(alone, test.accident)
    # Of the validation frames half are asked about, whatever their signals say.
    assert curves(validation, validation, "platt", error_of, 0).load["band"][10] == 0.5


def test_an_error_by_which_no_call_would_pay_is_bounded() -> None:
    frames = few()
    assert error_of(frames) == pytest.approx(4 / FEW)
    always = Scored(frames.score, frames.accident, frames.severe, {}, ~frames.accident)
    assert error_of(always) == 0.49
    unasked = Scored(frames.score, frames.accident, frames.severe, {})
    with pytest.raises(ValueError, match=r"^expected frames with the MLLM's answers$"):
        error_of(unasked)


def balanced(said: np.ndarray, accident: np.ndarray) -> float:
    return float(((said[accident].mean()) + (~said[~accident]).mean()) / 2)
