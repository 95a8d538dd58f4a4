import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime.errors import ConfigError, DataError
from dat_runtime.truth import Frame, read_truth
from dat_runtime.types import Box, Detection, Size
from eval.gating import (
    OWN_AP,
    RATES,
    THRESHOLDS,
    GatedFrames,
    Measured,
    detections,
    gated,
    named,
    rates,
    sampled,
)
from eval.routing import gating_report
from eval.routing.average_precision import match, mean_average_precision

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


def measures(scores: list[float]) -> dict[str, np.ndarray]:
    """Of a gate with these scores, its boxes far from the true ones."""
    found = [(detection(score, 50),) for score in scores]
    f = GatedFrames(frames().image_ids, np.array(scores), frames().accident, frames().severe)
    return sampled(f, records(), found, by_severity=True)


def detection(confidence: float, x: float, severity: str | None = "severe") -> Detection:
    return Detection(Box(x, 0, x + 10, 10, Size(100, 100)), severity, confidence)  # type: ignore[arg-type]


def records() -> list[Frame]:
    return [
        Frame(f"f{i}", f"images/f{i}.png", 100, 100, ((0, 0, 10, 10),) * len(t), tuple(t))
        for i, t in enumerate(TRUTH)
    ]


def random_frames(count: int) -> tuple[list[Frame], list[list[Detection]]]:
    """Frames with boxes, and detections near some of them, of either severity."""
    random = np.random.default_rng(3)
    truth, found = [], []
    for i in range(count):
        corners = random.integers(0, 60, (random.integers(0, 4), 2))
        boxes = tuple((int(x), int(y), int(x) + 30, int(y) + 20) for x, y in corners)
        names = tuple(str(s) for s in random.choice(["moderate", "severe"], len(boxes)))
        truth.append(Frame(f"f{i}", f"images/f{i}.png", 100, 100, boxes, names))
        said = []
        for x, y, _, _ in [*boxes, *boxes, *(((5, 70, 0, 0),) if i % 3 else ())]:
            dx, dy = random.normal(0, 4, 2)
            box = Box(x + dx, y + dy, x + dx + 30, y + dy + 20, Size(100, 100))
            severity = random.choice(["moderate", "severe"])
            said.append(Detection(box, severity, float(random.random())))
        found.append(said)
    return truth, found


def test_a_frame_that_counts_twice_is_as_good_as_two_frames() -> None:
    truth, found = random_frames(12)
    counts = np.array([i % 3 for i in range(12)])
    picked = [i for i, count in enumerate(counts) for _ in range(count)]
    again = match([truth[i] for i in picked], [found[i] for i in picked], True)
    assert mean_average_precision(match(truth, found, True), counts) == pytest.approx(
        mean_average_precision(again, np.ones(len(picked), int)), abs=1e-12
    )
    assert np.isnan(mean_average_precision(again, np.zeros(len(picked), int))).all()


def test_a_gate_of_one_class_is_right_whatever_the_severity() -> None:
    truth, found = records(), [[detection(0.9, 0, None)] if t else [] for t in TRUTH]
    one = mean_average_precision(match(truth, found, False), np.ones(7, int))
    assert one[0] > 0.7  # the seventh frame's second box lies under its first
    assert mean_average_precision(match(truth, found, True), np.ones(7, int))[0] == 0


def test_the_gate_runs_over_every_frame_of_a_split(tmp_path: Path) -> None:
    write_split(tmp_path, SCORES)
    truth = read_truth(tmp_path / "truth_test.jsonl", pictures=True)
    found = gated(truth, detections("gate", tmp_path, truth, BrightnessDetector()))
    assert found.score == pytest.approx(SCORES, abs=0.01)
    assert found.accident.tolist() == [bool(t) for t in TRUTH]
    assert found.severe.tolist() == [True, False, True, False, False, False, False]


def test_a_frame_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_split(tmp_path, SCORES)
    (tmp_path / "images" / "f3.png").write_bytes(b"<html>")
    truth = read_truth(tmp_path / "truth_test.jsonl", pictures=True)
    with pytest.raises(DataError, match=r"f3\.png: cannot be read"):
        detections("gate", tmp_path, truth, BrightnessDetector())


def report() -> dict[str, Any]:
    """Of two gates on two splits, as measure_gates makes it."""
    one, other = Measured(frames(), measures(SCORES)), Measured(frames(), measures([0.9] * 7))
    splits = {split: one.as_json() for split in ("val", "test")}
    others = {split: other.as_json() for split in ("val", "test")}
    return {
        "thresholds": THRESHOLDS,
        "gates": {
            "gate": {"classes": ["moderate", "severe"], "splits": splits},
            "gate-1cls": {"classes": ["accident"], "splits": others},
        },
        "compared_with": "gate",
        "differences": {"gate-1cls": {split: other.minus(one) for split in ("val", "test")}},
    }


def test_the_tables_have_a_row_for_each_split_threshold_and_gate() -> None:
    parts = gating_report.words(report()).split("\n\n")
    tables = [part.splitlines() for part in parts if part.startswith("|")]
    assert [len(rows) - 2 for rows in tables] == [4, 8, 4]
    for rows in tables:
        assert len({row.count("|") for row in rows}) == 1
    assert [row.split("|")[2].strip() for row in tables[1][2:]] == ["0.25"] * 2 + ["0.8"] * 2 + [
        "0.25"
    ] * 2 + ["0.8"] * 2
    assert "0.667 [" in tables[1][2]
    assert "another task for one class than for two" in parts[2]


def test_a_gate_alone_is_compared_with_none() -> None:
    alone = report() | {"differences": {}}
    del alone["gates"]["gate-1cls"]
    assert "Differences" not in gating_report.words(alone)


def test_the_csv_and_the_picture_hold_both_gates(tmp_path: Path) -> None:
    gating_report.write(report(), tmp_path)
    with (tmp_path / "gating.csv").open() as file:
        rows = list(csv.DictReader(file))
    of = {(r["split"], r["gate"], r["minus"], r["measure"], r["threshold"]): r for r in rows}
    assert of["test", "gate", "", "mllm_load", "0.25"]["value"] == str(3 / 7)
    assert of["test", "gate-1cls", "gate", "mllm_load", "0.25"]["value"] == str(4 / 7)
    assert of["test", "gate", "", "mAP50", ""]["value"] == "0.0"
    picture = cv2.imread(str(tmp_path / "gating.png"))
    colours = {tuple(int(c) for c in pixel) for pixel in picture.reshape(-1, 3)}
    assert {(0xA8, 0x6C, 0x1B), (0x5B, 0x49, 0xD1)} <= colours


def test_gates_have_names_of_their_own(tmp_path: Path) -> None:
    a, b = tmp_path / "a" / "gate", tmp_path / "b" / "gate"
    assert list(named([a, tmp_path / "other"])) == ["gate", "other"]
    assert list(named([a, b])) == ["a-gate", "b-gate"]
    with pytest.raises(ConfigError, match="expected different gates"):
        named([a, b, a])
