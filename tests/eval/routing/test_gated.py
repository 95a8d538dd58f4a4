"""The measures of Fig. 4 against counts by hand."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.errors import DataError
from dat_runtime.truth import read_truth
from dat_runtime.types import Box, Detection, Severity, Size
from eval.routing.gated import (
    OWN_AP,
    RATES,
    THRESHOLDS,
    Measured,
    detections,
    gated,
    rates,
    sampled,
)
from eval.statistics import bootstrap
from tests.eval.routing.seven_frames import SCORES, TRUTH, frames, measures, records


class BrightnessDetector:
    """A detection as confident as the picture is bright; none in a black one."""

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        brightness = float(image.mean()) / 255
        box = Box(0, 0, 4, 4, Size(8, 8))
        return (Detection(box, "severe", brightness),) if brightness else ()


def write_split(data: Path, scores: list[float]) -> None:
    (data / "images").mkdir()
    lines = []
    for i, (score, severities) in enumerate(zip(scores, TRUTH, strict=True)):
        name = f"images/f{i}.png"
        cv2.imwrite(str(data / name), np.full((8, 8, 3), round(255 * score), np.uint8))
        accidents = [{"bbox": [0, 0, 4, 4], "severity": s} for s in severities]
        record = {"image_id": f"f{i}", "image": name, "width": 8, "height": 8}
        lines.append(json.dumps({**record, "accidents": accidents}))
    (data / "truth_test.jsonl").write_text("\n".join(lines))


def test_rates_at_the_low_threshold_are_those_counted_by_hand() -> None:
    f = frames()
    measured = rates(f.score >= 0.25, f.accident, f.severe)
    assert {name: round(float(v), 6) for name, v in measured.items()} == {
        "balanced_accuracy": round((2 / 3 + 3 / 4) / 2, 6),
        "suspect_precision": round(2 / 3, 6),
        "false_positive_rate": 0.25,
        "missed_severe": 0.5,
        "mllm_load": round(3 / 7, 6),
    }


def test_a_higher_threshold_never_raises_load_or_false_positives() -> None:
    f = frames()
    measured = [rates(f.score >= t, f.accident, f.severe) for t in np.linspace(0, 1, 11)]
    for name in ("mllm_load", "false_positive_rate"):
        values = [float(m[name]) for m in measured]
        assert values == sorted(values, reverse=True)


def test_intervals_hold_the_value_and_what_nothing_defines_stays_empty() -> None:
    measured = Measured(frames(), measures(SCORES)).as_json()
    for name in (f"{rate}_{at}" for rate in RATES for at in THRESHOLDS):
        assert measured[name]["low"] <= measured[name]["value"] <= measured[name]["high"]
    assert measured["false_positives"] == {"low": 1, "high": 0}
    nothing_triggers = Measured(frames(), measures([0.1] * 7)).as_json()
    assert nothing_triggers["suspect_precision_low"] == {"value": None, "low": None, "high": None}


def test_each_resample_is_judged_as_the_frames_are_that_it_drew() -> None:
    scores = [0.8, 0.25, 0.1, 0.25, 0.8, 0.0, 0.2]  # those on a threshold trigger
    f = replace(frames(), score=np.array(scores))
    wrong: dict[Severity | None, Severity] = {"severe": "moderate", "moderate": "severe"}
    boxes = [
        [Detection(a.box, wrong[a.severity], 0.9) for a in frame.accidents] for frame in records()
    ]
    found = sampled(f, records(), boxes, by_severity=True)
    drawn = np.vstack([range(7), bootstrap.draws(7, 1000, bootstrap.ROUTING_SEED)])
    for level, threshold in (("low", 0.25), ("high", 0.8)):
        on = np.array([score >= threshold for score in scores])[drawn]
        for name, values in rates(on, f.accident[drawn], f.severe[drawn]).items():
            assert np.array_equal(found[f"{name}_{level}"], values, equal_nan=True)
    # A class: the box of one frame is of the other class, then that of the frame with both is
    # right, so half of the accidents are found at a precision of a half: 51 of 101 recalls.
    for name in OWN_AP:
        assert found[name][0] == pytest.approx(51 / 101 / 2)
    # One class: no frame but the one with both, where all boxes are in one place, has a doubt.
    assert found["one_class_mAP50"][0] == pytest.approx(1)
    accidents_drawn = (drawn < 3).any(axis=1)
    assert np.array_equal(np.isfinite(found["one_class_mAP50"]), accidents_drawn)
    measured = Measured(f, found).as_json()
    assert (measured["frames"], measured["false_positives"]) == (7, {"low": 2, "high": 1})
    assert measured["mllm_load_high"]["value"] == pytest.approx(2 / 7)


def test_a_line_says_what_a_frame_is() -> None:
    lines = list(frames().lines())
    assert lines[1] == {"image_id": "f1", "score": 0.3, "accident": True, "severe": False}
    assert [line["image_id"] for line in lines] == [f"f{i}" for i in range(7)]
    assert {type(line[key]) for line in lines for key in ("accident", "severe")} == {bool}


def test_a_gate_differs_from_itself_by_nothing_and_from_a_better_one_by_its_errors() -> None:
    ours = Measured(frames(), measures(SCORES))
    assert all(d["low"] == d["high"] == 0 for d in ours.minus(ours).values())
    perfect = [0.9 if t else 0.1 for t in TRUTH]
    better = Measured(frames(), measures(perfect)).minus(ours)
    assert better["balanced_accuracy_low"]["value"] == pytest.approx(1 - (2 / 3 + 3 / 4) / 2)
    assert better["missed_severe_low"]["value"] == -0.5
    assert not better.keys() & set(OWN_AP)


def test_the_gate_runs_over_every_frame_of_a_split(tmp_path: Path) -> None:
    write_split(tmp_path, SCORES)
    truth = read_truth(tmp_path / "truth_test.jsonl", pictures=True)
    scored = gated(truth, detections("gate", tmp_path, truth, BrightnessDetector()))
    assert scored.score == pytest.approx(SCORES, abs=0.01)
    assert scored.image_ids == tuple(f"f{i}" for i in range(7))
    assert scored.accident.tolist() == [bool(t) for t in TRUTH]
    assert scored.severe.tolist() == [True, False, True, False, False, False, False]


def test_every_hundredth_frame_and_the_last_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_split(tmp_path, SCORES)
    truth = read_truth(tmp_path / "truth_test.jsonl", pictures=True)
    detections("ours", tmp_path, [truth[0]] * 101, BrightnessDetector())
    assert capsys.readouterr().out == (
        "[gating] ours: 100/101 frames\n[gating] ours: 101/101 frames\n"
    )


def test_a_frame_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_split(tmp_path, SCORES)
    (tmp_path / "images" / "f3.png").write_bytes(b"<html>")
    truth = read_truth(tmp_path / "truth_test.jsonl", pictures=True)
    with pytest.raises(DataError, match=r"f3\.png: neither a JPEG nor a PNG"):
        detections("gate", tmp_path, truth, BrightnessDetector())
