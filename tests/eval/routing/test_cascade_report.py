"""The words and the curves of eval.cascade, as they are worked out by hand."""

from typing import Any

import numpy as np
import pytest

from eval.routing import cascade_report
from eval.routing.load_curve import LOADS, ROUTINGS, Curves


def report(**changes: Any) -> dict[str, Any]:
    """Of a band for a load, without the MLLM's answers and without drift."""
    rates: dict[str, Any] = {
        name: {"value": k / 10, "low": k / 10 - 0.02, "high": k / 10 + 0.01}
        for k, name in enumerate(("load", "reported", "report_precision", "missed_severe"), 1)
    }
    return {
        "frames": {"val": 300, "test": 200},
        "calibration": {
            "method": "platt",
            "test_uncalibrated": {"ece": 0.2, "log_loss": 0.9},
            "test": {"ece": 0.03, "expected": 0.025, "log_loss": 0.4},
        },
        "wanted": {"load": 0.002, "missed_severe": 0.05},
        "policy": "band",
        "band": {"low": 0.123456, "high": 0.9},
        "mllm_error": 0.125,
        "accident_share": 0.0001,
        "validation_load": 0.1994,
        "rates": rates | {"refused": 0, "resamples": 200},
        "budget": {"price": 0.1},
        "failed_answers": {"val": 0, "test": 0},
        **changes,
    }


CALIBRATED = (
    "- Calibrated by platt on 300 validation frames. On 200 test frames ECE 0.200 -> 0.030 "
    "(perfect probabilities would show 0.025 with this many frames), log loss 0.900 -> 0.400."
)
RATES = (
    "- On test frames: MLLM load 0.100 (0.080-0.110), reported by the gate 0.200 (0.180-0.210), "
    "share of these with an accident 0.300 (0.280-0.310), severe frames dropped 0.400 "
    "(0.380-0.410)."
)
NO_CURVE = "- Without the MLLM's answers (--test) there is no curve of quality against load."


def test_the_words_of_a_report_are_these() -> None:
    assert cascade_report.words(report()).splitlines() == [
        CALIBRATED,
        "- Policy band: frames go to the MLLM from p = 0.123 on, and are reported by the gate from "
        "0.9 on; fitted for a load of 0.2 % and at most 5.0% of severe frames dropped (95 % "
        "confidence), an MLLM that errs on 12.5% of the frames, 0.01 % of the frames with an "
        "accident; load on validation frames 0.199.",
        RATES,
        NO_CURVE,
    ]


def test_the_papers_thresholds_and_a_trigger_are_told_as_what_they_are() -> None:
    paper = report(wanted={"load": None, "missed_severe": None})
    assert cascade_report.words(paper).splitlines()[1] == (
        "- Thresholds: the paper's; frames with a score of 0.25 or more go to the MLLM."
    )
    trigger = report(
        wanted={"load": 0.2, "missed_severe": None}, band={"low": 0.1, "high": None}, policy="x"
    )
    words = cascade_report.words(trigger).splitlines()[1]
    start = "- Policy x: frames go to the MLLM from p = 0.1 on; fitted for a load of 20 %, an MLLM"
    assert words.startswith(start)


def test_what_did_not_go_as_it_should_is_told() -> None:
    troubled = report(
        budget={"price": 0},
        failed_answers={"val": 0, "test": 3},
        rates={"load": {"value": 0.5, "low": 0.4, "high": 0.6}, "refused": 5, "resamples": 195},
        drift={
            "phases": [
                {"accidents": 0.001, "fixed": 0.1, "controlled": 0.2},
                {"accidents": 0.3, "fixed": 0.4444, "controlled": 0.21},
            ]
        },
    )
    assert cascade_report.words(troubled).splitlines()[2:] == [
        "- On test frames: MLLM load 0.500 (0.400-0.600).",
        "- The budget is not used up: more calls would not be worth making.",
        "- Failed or missing answers of the MLLM, counted as wrong: 0 of the validation frames, 3 "
        "of the test frames.",
        "- In 5 of 200 resamples the load could not hold: it is near its limit.",
        "- Load with fixed thresholds -> with the load controller, while the share of accidents "
        "drifts: 0.1 % accidents: 0.100 -> 0.200, 30 % accidents: 0.444 -> 0.210.",
        NO_CURVE,
    ]
    also = report(failed_answers={"val": 2, "test": 0})
    assert "as wrong: 2 of the validation frames, 0 of the test frames." in (
        cascade_report.words(also)
    )
    without = report()
    del without["budget"]
    assert cascade_report.words(without) == cascade_report.words(report())


def curves() -> Curves:
    """The band gains over entropy at low loads; each routing is drawn 0.02 lower and higher."""
    quality = dict.fromkeys(ROUTINGS, 0.5 + 0.4 * LOADS)
    quality["band"] = np.minimum(0.5 + 0.8 * LOADS, 0.9)
    quality["top_score"] = quality["band"] + 0.05
    drawn = {name: np.stack([values - 0.02, values + 0.02]) for name, values in quality.items()}
    drawn["random"] = drawn["random"][::-1]
    load = dict.fromkeys(ROUTINGS, LOADS + 0.01)
    return Curves(quality, load, drawn)


def test_curves_are_kept_with_their_intervals_and_what_the_band_gains_and_loses() -> None:
    kept = cascade_report.curve_json(curves())
    assert kept["loads"] == pytest.approx([i / 20 for i in range(21)])
    assert kept["routings"].keys() == set(ROUTINGS)
    band = kept["routings"]["band"]
    assert [band["quality"][i] for i in (0, 5, 20)] == pytest.approx([0.5, 0.7, 0.9])
    assert [band[end][5] for end in ("low", "high")] == pytest.approx([0.681, 0.719])
    assert band["realised_load"][1] == pytest.approx(0.06)
    assert list(kept["band_above"]) == ["random", "top_score", "entropy"]
    above = {name: gap["value"][5] for name, gap in kept["band_above"].items()}
    assert above == pytest.approx({"random": 0.1, "top_score": -0.05, "entropy": 0.1})
    ends = {name: (gap["low"][5], gap["high"][5]) for name, gap in kept["band_above"].items()}
    assert ends["entropy"] == pytest.approx((0.1, 0.1))  # drawn alike: pairs differ by no chance
    assert ends["random"] == pytest.approx((0.062, 0.138))
    assert kept["band_below_mllm"]["value"] == pytest.approx(0.9 - curves().quality["band"])
    assert kept["band_below_mllm"]["low"][0] == pytest.approx(0.4)
    assert kept["band_below_mllm"]["high"][20] == 0


def test_the_words_of_a_curve_are_these() -> None:
    lines = cascade_report.words(report(curve=cascade_report.curve_json(curves()))).splitlines()
    mean = np.mean((curves().quality["band"] - curves().quality["random"])[1:-1])
    assert f"{mean:+.3f}" == "+0.105"
    assert lines[3:] == [
        "- From a load of 50% on the cascade is at most 1% of balanced accuracy below the MLLM on "
        "all frames, with 95 % confidence.",
        "- Band against random: +0.105 of balanced accuracy on average over the loads; the "
        "interval is above 0 at 17 and below 0 at 0 of 19 loads.",
        "- Band against top_score: -0.050 of balanced accuracy on average over the loads; the "
        "interval is above 0 at 0 and below 0 at 19 of 19 loads.",
        "- Band against entropy: +0.105 of balanced accuracy on average over the loads; the "
        "interval is above 0 at 19 and below 0 at 0 of 19 loads.",
    ]


def test_a_loss_of_one_percent_is_no_loss_and_one_above_it_is() -> None:
    curve = cascade_report.curve_json(curves())
    for loss, first in ((0.01, "0%"), (0.0101, "25%")):
        curve["band_below_mllm"]["high"] = [0.0] * 4 + [loss] + [0.0] * 16
        words = cascade_report.words(report(curve=curve))
        assert f"- From a load of {first} on" in words
