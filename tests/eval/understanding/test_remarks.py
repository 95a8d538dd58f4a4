"""The sentences beside Tables 1-2, to the letter."""

import json
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.prompt import task_prompt
from dat_runtime.types import Detection, Size
from eval.understanding.metrics import METRICS
from eval.understanding.remarks import compare, gate_notes, notes, trivial_notes
from tests.eval.understanding.four_frames import FRAMES, QUIET, TEXTS, accident, measures

FIRST = [
    "Intervals are 95 % bootstrap intervals over the test frames.",
    "Paper, Table 1: SevAcc 98.83 % (Ours) against 98.49 % (GPT-5) on at most 600 frames differ by "
    "0.3 points, with a 95 % interval of about -1.0 to +1.6: they cannot be told apart.",
]


def scores(n: int, missing: int = 0, **values: float) -> dict[str, Any]:
    return {"n": n, "missing": missing} | {
        metric: {"value": values.get(metric, 0.5)} for metric in METRICS
    }


def test_how_to_read_the_figures_is_said_once() -> None:
    assert notes({"a": scores(600)}) == FIRST
    assert notes({}) == FIRST


@pytest.mark.parametrize("faultless", [{"parse": 1}, {"schema": 1}, {"rule": 1}, {"viol": 0}])
def test_no_fault_in_so_many_frames_is_no_certainty(faultless: dict[str, float]) -> None:
    found = notes({"a": scores(600), "b": scores(60, missing=2, **faultless)})
    assert found[2:] == [
        "An interval without width (1.0 or 0.0) is no certainty: 0 faults in 60 frames still allow "
        "a fault rate of up to 5.0% (rule of three).",
        "b: 2 of 60 answers are missing, counted failed.",
    ]
    assert notes({"a": scores(600, parse=0, viol=1)}) == FIRST


def test_frames_without_a_detection_are_those_that_the_gate_would_drop(tmp_path: Path) -> None:
    boxed = tmp_path / "boxed_test.json"
    assert gate_notes(FRAMES, boxed) == []
    seen = [Detection(accident(10, "severe").box, "severe", 0.9)]
    samples = []
    for frame, found in zip(FRAMES, (seen, (), (), ()), strict=True):
        prompt = task_prompt(Size(200, 100), found)
        turns = [{"content": f"<image>{prompt}"}]
        samples.append({"image_id": frame.image_id, "frame": [200, 100], "messages": turns})
    boxed.write_text(json.dumps(samples), "utf-8")
    assert gate_notes(FRAMES, boxed) == [
        "The gate finds nothing in 3 of 4 frames, 2 of them with accidents; in the field these "
        "never reach the MLLM, here it is asked about them too."
    ]


def test_the_mark_is_explained_with_the_rows_that_bear_it() -> None:
    better = {"low": -0.125, "high": 0.25}
    marks: dict[str, Any] = {
        "a": {
            "count_em": {"trivial": "never", "difference": better},
            "count_mae": {"trivial": "gate", "difference": better},
            "sev_f1": {"trivial": "never", "difference": better},
        },
        "b": {},
    }
    assert trivial_notes(marks, ["never", "gate"]) == [
        "†: no better than the best row that needs no MLLM (Never an alert, The gate alone): the "
        "95 % interval of the paired difference does not lie on the better side.",
        "a is no better than never an alert in Count EM (-12.50% to 25.00%), SevF1 (-12.50% to "
        "25.00%); than the gate alone in Count MAE (-0.1250 to 0.2500).",
    ]
    assert trivial_notes({}, ["never"]) == []


def test_rows_are_compared_with_those_before_them() -> None:
    many = 8  # of four frames each, so that chance explains less
    rows = {
        "quiet": measures(QUIET * many, many),
        "ours": measures(TEXTS * many, many),
        "again": measures(TEXTS * many, many),
    }
    found = compare(rows, {"ours": {"schema": {}, "bbox_miou": {}}})
    assert [(told["row"], told["against"]) for told in found] == [
        ("ours", "quiet"),
        ("again", "quiet"),
        ("again", "ours"),
    ]
    ours, again, same = found
    assert ours["sentence"] == (
        "ours against quiet: is better in BBox mIoU†, Recall@0.5; is worse in Parse, Schema, Rule; "
        "cannot be told apart in Count EM, Count MAE, SevAcc, SevF1, Viol."
    )
    assert again["sentence"] == ours["sentence"].replace("ours", "again").replace("†", "")
    assert same["sentence"].startswith("again against ours: cannot be told apart in Count EM, Coun")
    assert ours["verdicts"]["bbox_miou"] == "better"
    assert ours["differences"]["bbox_miou"]["value"] == pytest.approx(0.4)  # (1 + 0.6) / 4
    assert set(ours["differences"]["parse"]) == {"value", "low", "high"}
