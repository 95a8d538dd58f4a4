"""The measures of Fig. 4 against counts by hand."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.errors import DataError
from dat_runtime.truth import read_truth
from dat_runtime.types import Box, Detection, Size
from eval.routing.gated import (
    OWN_AP,
    RATES,
    THRESHOLDS,
    Measured,
    detections,
    gated,
    rates,
)
from tests.eval.routing.seven_frames import SCORES, TRUTH, frames, measures


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
    assert scored.accident.tolist() == [bool(t) for t in TRUTH]
    assert scored.severe.tolist() == [True, False, True, False, False, False, False]


def test_a_frame_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_split(tmp_path, SCORES)
    (tmp_path / "images" / "f3.png").write_bytes(b"<html>")
    truth = read_truth(tmp_path / "truth_test.jsonl", pictures=True)
    with pytest.raises(DataError, match=r"f3\.png: neither a JPEG nor a PNG"):
        detections("gate", tmp_path, truth, BrightnessDetector())
