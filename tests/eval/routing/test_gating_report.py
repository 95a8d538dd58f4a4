"""The tables, the CSV and the picture of eval.gating."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from eval.routing import gating_report
from eval.routing.gated import THRESHOLDS, Measured
from tests.eval.routing.seven_frames import SCORES, frames, measures


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
    assert "a different task with one class than with two" in parts[2]


def test_a_gate_alone_is_compared_with_none() -> None:
    alone = report() | {"differences": {}}
    del alone["gates"]["gate-1cls"]
    assert "Differences" not in gating_report.words(alone)


def by_hand() -> dict[str, Any]:
    """A report of two gates on one split, each value another one."""
    rates = ("balanced_accuracy", "suspect_precision", "false_positive_rate", "missed_severe",
             "mllm_load")  # fmt: skip
    names = [f"{rate}_{level}" for level in ("low", "high") for rate in rates]
    names += ["mAP50", "mAP50-95", "one_class_mAP50", "one_class_mAP50-95"]

    def measures(first: float, without: tuple[str, ...] = ()) -> dict[str, Any]:
        values = {name: first + k / 100 for k, name in enumerate(names) if name not in without}
        return {
            name: {"value": value, "low": value - 0.001, "high": value + 0.001}
            for name, value in values.items()
        }

    one, other = measures(0.5), measures(0.2)
    other["suspect_precision_high"] = {"value": None, "low": None, "high": None}
    counts = {"frames": 40, "false_positives": {"low": 7, "high": 3}}
    more = {"frames": 40, "false_positives": {"low": 9, "high": 8}}
    difference = measures(-0.05, without=("mAP50", "mAP50-95"))
    return {
        "thresholds": {"low": 0.25, "high": 0.8},
        "gates": {
            "two": {"classes": ["moderate", "severe"], "splits": {"test": counts | one}},
            "one": {"classes": ["accident"], "splits": {"test": more | other}},
        },
        "compared_with": "two",
        "differences": {"one": {"test": difference}},
    }


def cells(values: list[float], sign: str = "") -> str:
    return " | ".join(
        f"{v:{sign}.3f} [{v - 0.001:{sign}.3f}, {v + 0.001:{sign}.3f}]" for v in values
    )


def test_the_words_of_a_report_are_these() -> None:
    rates = "Balanced accuracy | Suspect precision | False positives | Missed severe | MLLM load"
    own, one_class = "mAP50 | mAP50-95", "mAP50, severity left out | mAP50-95, severity left out"
    missing = cells([0.25]) + " | – | " + cells([0.27, 0.28, 0.29])
    assert gating_report.words(by_hand()) == "\n\n".join([
        f"| Split | Gate | Classes | {own} | {one_class} | Frames |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        f"| test | two | moderate and severe | {cells([0.6, 0.61, 0.62, 0.63])} | 40 |\n"
        f"| test | one | accident | {cells([0.3, 0.31, 0.32, 0.33])} | 40 |",
        f"| Split | τ | Gate | {rates} | False positive frames |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        f"| test | 0.25 | two | {cells([0.5, 0.51, 0.52, 0.53, 0.54])} | 7 |\n"
        f"| test | 0.25 | one | {cells([0.2, 0.21, 0.22, 0.23, 0.24])} | 9 |\n"
        f"| test | 0.8 | two | {cells([0.55, 0.56, 0.57, 0.58, 0.59])} | 3 |\n"
        f"| test | 0.8 | one | {missing} | 8 |",
        gating_report.TASKS,
        "Differences from two, on the same resampled frames; an interval without 0 is a "
        "difference that chance does not explain:",
        f"| Split | τ | Gate | {rates} | {one_class} |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        f"| test | 0.25 | one | {cells([-0.05, -0.04, -0.03, -0.02, -0.01, 0.07, 0.08], '+')} |\n"
        f"| test | 0.8 | one | {cells([0.0, 0.01, 0.02, 0.03, 0.04, 0.07, 0.08], '+')} |",
    ])  # fmt: skip


@pytest.mark.slow
def test_the_csv_and_the_picture_hold_both_gates(tmp_path: Path) -> None:
    gating_report.write(report(), tmp_path)
    assert (tmp_path / "gating.md").read_text() == gating_report.words(report()) + "\n"
    assert json.loads((tmp_path / "gating.json").read_text())["compared_with"] == "gate"
    with (tmp_path / "gating.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = {}
    for row in rows:
        key = (row["split"], row["gate"], row["minus"], row["measure"], row["threshold"])
        values[key] = row["value"]
    assert values["test", "gate", "", "mllm_load", "0.25"] == str(3 / 7)
    assert values["test", "gate-1cls", "gate", "mllm_load", "0.25"] == str(4 / 7)
    assert values["test", "gate", "", "mAP50", ""] == "0.0"
    picture = cv2.imread(str(tmp_path / "gating.png"))
    assert picture.shape[1] == 800  # narrow: its text is legible on a phone
    colours = {tuple(int(c) for c in pixel) for pixel in picture.reshape(-1, 3)}
    assert {(0xA8, 0x6C, 0x1B), (0x5B, 0x49, 0xD1)} <= colours
