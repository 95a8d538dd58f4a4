import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.errors import DataError
from dat_runtime.types import Box, Detection, Size
from eval.gating import RATES, GatedFrames, gated, intervals, rates, table

TRUTH = [["severe"], ["moderate"], ["severe", "moderate"], [], [], [], []]
SCORES = [0.9, 0.3, 0.1, 0.5, 0.1, 0.0, 0.2]


class BrightnessDetector:
    """A detection as confident as the picture is bright; none in a black one."""

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        brightness = float(image.mean()) / 255
        box = Box(0, 0, 4, 4, Size(8, 8))
        return (Detection(box, "severe", brightness),) if brightness else ()


def frames() -> GatedFrames:
    return GatedFrames(
        tuple(f"f{i}" for i in range(len(TRUTH))),
        np.array(SCORES),
        np.array([bool(t) for t in TRUTH]),
        np.array(["severe" in t for t in TRUTH]),
    )


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
    f = frames()
    for interval in (intervals(f, 0.25)[name] for name in RATES):
        assert interval["low"] <= interval["value"] <= interval["high"]
    none = GatedFrames(f.image_ids, f.score, f.accident, np.zeros(len(TRUTH), bool))
    assert intervals(none, 0.25)["missed_severe"]["value"] is None
    nothing_triggers = intervals(f, 1.0)
    assert nothing_triggers["suspect_precision"]["value"] is None
    assert nothing_triggers["false_positives"] == 0


def test_the_gate_runs_over_every_frame_of_a_split(tmp_path: Path) -> None:
    write_split(tmp_path, SCORES)
    found = gated("test", tmp_path, BrightnessDetector())
    assert found.score == pytest.approx(SCORES, abs=0.01)
    assert found.accident.tolist() == [bool(t) for t in TRUTH]
    assert found.severe.tolist() == [True, False, True, False, False, False, False]


def test_a_frame_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_split(tmp_path, SCORES)
    (tmp_path / "images" / "f3.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"f3\.png: cannot be read"):
        gated("test", tmp_path, BrightnessDetector())


def test_the_table_has_a_row_for_each_split_and_threshold() -> None:
    measured = {"n": 7, "mAP50": 0.5, **{t: intervals(frames(), 0.25) for t in ("low", "high")}}
    report = {"thresholds": {"low": 0.25, "high": 0.8}, "splits": {"test": measured}}
    head, _, *rows = table(report).splitlines()
    assert head.count("|") == rows[0].count("|")
    assert [row.split("|")[2].strip() for row in rows] == ["0.25", "0.8"]
    assert "0.667 [" in rows[0]
