"""The tables, the CSV and the picture of eval.gating."""

import csv
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


@pytest.mark.slow
def test_the_csv_and_the_picture_hold_both_gates(tmp_path: Path) -> None:
    gating_report.write(report(), tmp_path)
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
