"""The cascade in a world whose probabilities are known."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
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
    logit,
)
from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import ConfigError, DataError
from dat_runtime.manifest import digest
from dat_runtime.stage import Stage
from eval import cascade
from eval.routing import thresholds
from eval.routing.load_curve import LOADS, curves, error_of
from eval.routing.probabilities import (
    METHODS,
    Scored,
    choose,
    cross_fitted,
    fit,
    reliability,
    shifted,
)
from eval.routing.read_scored import read_said, read_scored, read_signals

MLLM_ERROR = 0.05


def world(n: int, seed: int = 0, sound: bool = False, spread: float = 1.5) -> Scored:
    """Frames whose score is twice as sure as it should be, and an MLLM that errs by chance."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-0.5, spread, n)
    accident = rng.uniform(size=n) < 1 / (1 + np.exp(-odds))
    said = accident ^ (rng.uniform(size=n) < MLLM_ERROR)
    signals = {}
    if sound:
        heard = 1 / (1 + np.exp(-rng.normal(np.where(accident, 1.5, -1.5), 1.0)))
        signals["sound"] = np.where(rng.uniform(size=n) < 0.5, np.nan, heard)
    score = 1 / (1 + np.exp(-(2 * odds + 1)))
    return Scored(score, accident, accident & (rng.uniform(size=n) < 0.5), signals, said)


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


def test_the_mllms_error_is_measured_anew_in_each_resample() -> None:
    frames = world(300)
    drawn: list[float] = []

    def error(of: Scored) -> float:
        drawn.append(error_of(of))
        return drawn[-1]

    curves(frames, world(300, seed=1), "platt", error, resamples=5)
    assert drawn[0] == error_of(frames)
    assert len(set(drawn)) > 2
    assert cascade.mllm_error(cascade.Wanted(mllm_error=0.2), frames) == 0.2
    assert cascade.mllm_error(cascade.Wanted(), frames) == error_of(frames)


@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_shifted_probabilities_fit_another_share_of_accidents(method: str, share: float) -> None:
    frames, others = world(8000), world(40_000, seed=1)
    weight = thresholds.weights(others.accident, share)
    moved = shifted(fit(method, frames), float(frames.accident.mean()), share)
    said = moved(others.score, {})
    assert float(weight @ said) == pytest.approx(share, rel=0.15)


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


@pytest.mark.parametrize("policy", thresholds.POLICIES)
@pytest.mark.parametrize("load", [0.1, 0.3, 0.5])
def test_the_load_on_other_frames_is_near_the_budget(policy: str, load: float) -> None:
    frames, others = world(4000), world(4000, seed=1)
    routing = cascade.fitted(0.0, frames, "platt", cascade.Wanted(policy, load), 0.0)
    assert cascade.rates(routing, frames, None)[0] <= load + 1 / 4000
    assert cascade.rates(routing, others, None)[0] == pytest.approx(load, abs=0.02)


@pytest.mark.parametrize("policy", thresholds.POLICIES)
@pytest.mark.parametrize("share", [0.3, 0.01, 0.001])
def test_the_controller_holds_the_load_and_drops_no_more_accidents_however_rare_they_are(
    policy: str, share: float
) -> None:
    wanted = cascade.Wanted(policy, 0.1, accident_share=share)
    routing = cascade.fitted(0.0, world(4000), "platt", wanted, 0.0)
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
    wanted = cascade.Wanted("band", 0.1, accident_share=0.02)
    routing = cascade.fitted(0.0, frames, "platt", wanted, 0.0)
    assert cascade.rates(routing, others, 0.02)[0] == pytest.approx(0.1, abs=0.02)
    for_many = cascade.fitted(0.0, frames, "platt", cascade.Wanted("trigger", 0.5), 0.0)
    assert abs(cascade.rates(for_many, others, 0.02)[0] - 0.5) > 0.1, "any threshold would do"


def test_the_bound_on_missed_severe_accidents_holds() -> None:
    frames = world(2000)
    for missed in (0.0, 0.02, 0.1):
        wanted = cascade.Wanted("band", 0.6, missed)
        rates = cascade.rates(cascade.fitted(0.0, frames, "platt", wanted, 0.0), frames, None)
        assert rates[3] <= missed


def test_a_bound_and_a_load_that_exclude_each_other_are_refused_with_what_is_possible() -> None:
    with pytest.raises(ConfigError, match=r"asked about at least. Raise --load"):
        cascade.fitted(0.0, world(2000), "platt", cascade.Wanted("trigger", 0.1, 0.0), 0.0)


def test_a_load_that_cannot_hold_without_any_bound_is_refused_without_a_word_of_bounds() -> None:
    frames = world(2000)
    with pytest.raises(ConfigError, match=r"a load of 0.0% cannot hold .* Raise --load, or"):
        cascade.fitted(1.0, frames, "platt", cascade.Wanted("band", 0.0), 0.0)


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


def test_uncertainty_routing_beats_random_and_top_score_and_costs_little_quality() -> None:
    validation, test = world(1500, spread=4), world(1500, seed=1, spread=4)
    found = curves(validation, test, "platt", error_of, resamples=60)
    third = int(np.argmin(abs(LOADS - 0.3)))
    for other in ("random", "top_score"):
        gain = found.drawn["band"][:, third] - found.drawn[other][:, third]
        assert np.percentile(gain, 2.5) > 0
    lost = found.drawn["band"][:, -1] - found.drawn["band"][:, third]
    assert np.percentile(lost, 97.5) <= 0.01


def test_the_ends_of_the_curve_are_the_gate_alone_and_the_mllm_alone() -> None:
    validation, test = world(800), world(800, seed=1)
    found = curves(validation, test, "platt", error_of, resamples=2)
    calibration = fit("platt", validation)
    costs = thresholds.balanced_costs(float(validation.accident.mean()), 0)
    alone = calibration(test.score, {}) >= costs.indifferent
    for name in ("band", "entropy", "top_score", "random"):
        assert found.quality[name][0] == balanced(alone, test.accident)
        assert found.quality[name][-1] == balanced(test.said, test.accident)
        assert (found.load[name][0], found.load[name][-1]) == (0, 1)
    routing = cascade.fitted(0.0, validation, "platt", cascade.Wanted("band", 0.3), MLLM_ERROR)
    gate_alone, mllm_alone = cascade.rates(routing, test, None)[5:]
    assert (gate_alone, mllm_alone) == (found.quality["band"][0], found.quality["band"][-1])
    assert found.quality["trigger"][0] == 0.5


def balanced(said: np.ndarray, accident: np.ndarray) -> float:
    return float(((said[accident].mean()) + (~said[~accident]).mean()) / 2)


@pytest.fixture
def stages(tmp_path: Path, gate_folder: Path) -> Callable[..., list[str]]:
    """Writes what eval.gating and eval.predict leave of a world; gives arguments for it."""

    def write(n: int = 300) -> list[str]:
        arguments = ["--gate", str(gate_folder), "--gating", str(tmp_path / "gating")]
        with Stage(
            tmp_path / "gating", kind="gating", inputs={"gate": gate_folder}, config={}
        ) as folder:
            for seed, part in enumerate(("val", "test")):
                frames = world(n, seed)
                lines = [
                    {
                        "image_id": f"{part}{i}",
                        "score": float(frames.score[i]),
                        "accident": bool(frames.accident[i]),
                        "severe": bool(frames.severe[i]),
                    }
                    for i in range(n)
                ]
                text = "".join(json.dumps(line) + "\n" for line in lines)
                (folder / f"scores_{part}.jsonl").write_text(text)
                arguments += [f"--{part.replace('val', 'validation')}", row(part, frames)]
        return arguments

    def row(part: str, frames: Scored) -> str:
        with Stage(tmp_path / part, kind="predictions", inputs={}, config={}) as folder:
            lines = [
                {"image_id": f"{part}{i}", "text": answer(s)} for i, s in enumerate(frames.said)
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / "predictions.jsonl").write_text(text)
        return str(tmp_path / part)

    return write


def answer(accident: bool) -> str:
    if not accident:
        return json.dumps({"count": 0, "severity": "none", "level": 0, "score": 0.1,
                           "accidents": [], "summary": "None."})  # fmt: skip
    box = {"bbox": [1, 1, 5, 5], "severity": "severe"}
    return json.dumps({"count": 1, "severity": "severe", "level": 1, "score": 0.7,
                       "accidents": [box], "summary": "One."})  # fmt: skip


def test_a_fitted_cascade_is_what_the_runtime_then_does(
    stages: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "cascade"
    arguments = [*stages(), "--policy", "band", "--load", "0.3", "--missed-severe", "0.4"]
    assert cascade.main([*arguments, "--out", str(out)]) == 0
    report = json.loads((out / "cascade.json").read_text())
    routing = GateSettings.read(out / "gate.json").routing
    frames = world(300, seed=1)
    decisions = [routing.decide(float(s)) for s in frames.score]
    assert decisions.count("ask") / 300 == pytest.approx(report["rates"]["load"]["value"])
    assert {"drop", "ask", "report"} == set(decisions)
    for name in ("reliability.png", "load.png", "curve.png", "cascade.md"):
        assert (out / name).stat().st_size > 100
    assert report["closed_form_above_grid"] <= 0.01
    for phase in report["drift"]["phases"]:
        assert phase["controlled"] == pytest.approx(0.3, abs=0.02)


def test_rare_accidents_are_told_in_digits_that_say_something(
    stages: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "cascade"
    wishes = ["--policy", "entropy", "--load", "0.1", "--accident-share", "0.0005"]
    assert cascade.main([*stages()[:4], *wishes, "--mllm-error", "0.3", "--out", str(out)]) == 0
    words = (out / "cascade.md").read_text()
    assert "0.05 % of the frames with an accident" in words
    assert "0.15 % accidents: 0.000 -> 0.000" in words, "nothing is asked: a plot without height"
    assert (out / "load.png").stat().st_size > 100


def test_without_a_budget_the_thresholds_stay_the_papers(
    stages: Callable[..., list[str]], tmp_path: Path, gate_folder: Path
) -> None:
    out = tmp_path / "cascade"
    assert cascade.main([*stages()[:4], "--out", str(out)]) == 0
    assert GateSettings.read(out / "gate.json") == GateSettings.read(gate_folder / "gate.json")
    assert not (out / "curve.png").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--policy", "band"], "needs a budget"),
        (["--missed-severe", "0.1"], "needs a budget"),
        (["--load", "1.5"], "--load is 1.5"),
        (["--load", "0.3", "--mllm-error", "0.1"], "leave --mllm-error out"),
        (["--load", "0.3", "--accident-share", "1"], "between 0 and 1"),
        (["--calibration", "isotonic", "--signals", "s.csv"], "cannot fuse --signals"),
    ],
)
def test_wishes_that_make_no_sense_are_refused_by_name(
    stages: Callable[..., list[str]],
    tmp_path: Path,
    more: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cascade.main([*stages(60), *more, "--out", str(tmp_path / "cascade")]) == 1
    assert words in capsys.readouterr().err


def test_scores_of_another_gate_are_refused(
    stages: Callable[..., list[str]],
    tmp_path: Path,
    gate_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = stages(60)
    before = digest(gate_folder)
    with Stage(gate_folder, kind="gate", inputs={}, config={"other": 1}) as folder:
        (folder / "gate.json").write_bytes((gate_folder / "gate.json").read_bytes())
    assert digest(gate_folder) != before
    assert cascade.main([*arguments, "--out", str(tmp_path / "cascade")]) == 1
    assert "measured with another gate" in capsys.readouterr().err


def predictions(tmp_path: Path, texts: dict[str, str]) -> Path:
    with Stage(tmp_path / "row", kind="predictions", inputs={}, config={}) as folder:
        lines = [{"image_id": name, "text": text} for name, text in texts.items()]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "predictions.jsonl").write_text(text)
    return tmp_path / "row"


def test_a_failed_or_missing_answer_is_the_wrong_one(tmp_path: Path) -> None:
    row = predictions(tmp_path, {"a": "no JSON", "b": answer(True), "c": answer(False)})
    said, failed = read_said(row, ["a", "b", "c", "d"], np.array([True, True, True, False]))
    assert said.tolist() == [False, True, False, True]
    assert failed == 2


def test_answers_about_other_frames_are_refused(tmp_path: Path) -> None:
    row = predictions(tmp_path, {"x": answer(True)})
    with pytest.raises(DataError, match="--part val"):
        read_said(row, ["a"], np.array([True]))


def test_a_second_answer_about_a_frame_is_refused_with_file_and_line(tmp_path: Path) -> None:
    row = predictions(tmp_path, {"a": answer(True)})
    path = row / "predictions.jsonl"
    text = path.read_text() * 2
    with Stage(tmp_path / "twice", kind="predictions", inputs={}, config={}) as folder:
        (folder / "predictions.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"predictions\.jsonl:2: a second prediction for image 'a'"):
        read_said(tmp_path / "twice", ["a"], np.array([True]))


def score_line(**changes: object) -> str:
    line = {"image_id": "a", "score": 0.5, "accident": True, "severe": False, **changes}
    return json.dumps({k: v for k, v in line.items() if v != "-"}) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 of 0 frames show an accident"),
        (score_line(), "1 of 1 frames show an accident"),
        (score_line() + "no JSON\n", r":2: is not JSON"),
        (score_line() + "[" * 100_000, r":2: is not JSON"),
        (score_line() + "[]\n", r":2: is not a JSON object"),
        (score_line(score="-"), r":1: no score of eval.gating"),
        (score_line(score=float("nan")), r":1: score is nan"),
        (score_line(score=1.5), r":1: score is 1.5"),
    ],
)
def test_scores_that_are_none_are_refused_with_file_and_line(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "scores_val.jsonl").write_text(text)
    with pytest.raises(DataError, match=words):
        read_scored(tmp_path, "val", None, None)


def test_signals_are_read_from_a_file_that_a_spreadsheet_wrote(tmp_path: Path) -> None:
    path = tmp_path / "signals.csv"
    path.write_bytes(b"\xef\xbb\xbfimage_id,sound\r\na,0.5\r\n")
    assert read_signals(path, ["a"])["sound"].tolist() == [0.5]


def test_signals_are_read_with_their_gaps(tmp_path: Path) -> None:
    path = tmp_path / "signals.csv"
    path.write_text("image_id,sound,speed\nb,0.5,\na,,1\n")
    found = read_signals(path, ["a", "b", "c"])
    assert np.array_equal(found["sound"], [np.nan, 0.5, np.nan], equal_nan=True)
    assert np.array_equal(found["speed"], [1, np.nan, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns image_id"),
        ("image_id\na\n", "columns image_id"),
        ("name,sound\na,1\n", "columns image_id"),
        ("image_id,sound\na,0.5\nb,loud\n", ":3: sound is 'loud'"),
        ("image_id,sound\na,1.5\n", ":2: sound is '1.5'"),
        ("image_id,sound\na,nan\n", "sound is 'nan'"),
        ("image_id,sound\na,0.5\na,0.6\n", ":3: 'a' stands twice"),
        ("image_id,sound\nz,0.5\n", "knows none of the frames"),
    ],
)
def test_signals_that_are_none_are_refused_with_file_and_line(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "signals.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_signals(path, ["a", "b"])


def test_an_isotonic_and_a_logistic_calibration_rise() -> None:
    frames = world(500)
    for method, kind in (("isotonic", Isotonic), ("platt", Logistic)):
        calibration = fit(method, frames)
        assert isinstance(calibration, kind)
        assert (np.diff(calibration(np.linspace(0, 1, 50), {})) >= 0).all()
    assert np.isfinite(logit(0.0))
