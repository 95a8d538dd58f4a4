"""The counts of a set for report.json and on stdout, to the letter."""

from typing import Any

import pytest

from data.prep.importers.faults import RULES, Fault
from data.prep.importers.source_frame import Scan
from data.prep.reporting.summaries import exact_across, of_set, print_summary
from data.prep.reporting.tables import table
from data.prep.splitting.leaks import Link
from tests.data.prep.reporting.small_set import FRAMES

SCAN = Scan([], [], {"train": 3, "val": 1, "test": 2})
FAULTS = [
    Fault("duplicate-negative", "a.jpg", None, "copy"),
    Fault("polygon-row", "b.txt", 3, "x"),
    Fault("polygon-row", "b.txt", 4, "x"),
]
CONFIG = {
    "split": "published",
    "single_class": False,
    "leak_free": False,
    "negatives_by_clip": False,
}


def report(**changes: Any) -> dict[str, Any]:
    return of_set(FRAMES, SCAN, FAULTS, 9, CONFIG | changes)


def test_a_set_is_counted_by_split_class_and_fault() -> None:
    found = report()
    faults = found.pop("faults")
    assert found == {
        "version": 1,
        "split": "published",
        "classes": ["moderate", "severe"],
        "splits": {
            "train": {
                "frames": 3,
                "accident_set": 3,
                "negatives": 0,
                "moderate_boxes": 2,
                "severe_boxes": 1,
            },
            "val": {
                "frames": 1,
                "accident_set": 1,
                "negatives": 0,
                "moderate_boxes": 0,
                "severe_boxes": 7,
            },
            "test": {
                "frames": 2,
                "accident_set": 1,
                "negatives": 1,
                "moderate_boxes": 2,
                "severe_boxes": 0,
            },
        },
        "published_split": {
            "found": {"train": 3, "val": 1, "test": 2},
            "paper": {"train": 10469, "val": 1004, "test": 649},
            "is_the_papers": False,
        },
        "negatives": {
            "found": 9,
            "exact_duplicates": 1,
            "kept": 1,
            "side": 640,
            "gamma": 1.2,
            "split_by": "frame",
            "split": {
                "found": {"train": 0, "val": 0, "test": 1},
                "paper": {"train": 268, "val": 120, "test": 120},
                "is_the_papers": False,
            },
        },
    }
    assert faults["counts"] == {"polygon-row": 2, "duplicate-negative": 1}
    assert faults["rules"]["polygon-row"] == RULES["polygon-row"]
    assert faults["list"][1] == {"kind": "polygon-row", "file": "b.txt", "line": 3, "detail": "x"}


def test_the_papers_own_split_is_recognised() -> None:
    papers = Scan([], [], {"train": 10_469, "val": 1_004, "test": 649})
    found = of_set(FRAMES, papers, [], 0, CONFIG)["published_split"]
    assert found["is_the_papers"] is True
    assert found["found"] == found["paper"]


@pytest.mark.parametrize(
    ("changes", "split_by"),
    [
        ({}, "frame"),
        ({"negatives_by_clip": True}, "clip"),
        ({"leak_free": True}, "group"),
        ({"leak_free": True, "negatives_by_clip": True}, "group"),
    ],
)
def test_negatives_are_split_by_what_the_options_say(
    changes: dict[str, bool], split_by: str
) -> None:
    assert report(**changes)["negatives"]["split_by"] == split_by


def test_a_single_class_has_one_name() -> None:
    assert report(single_class=True)["classes"] == ["accident"]


def test_accident_frames_that_copy_another_split_are_counted_once() -> None:
    links = [Link(0, 1, "exact", 0), Link(2, 1, "exact", 0), Link(0, 3, "near", 1)]
    assert exact_across([*links, Link(0, 5, "exact", 0)], FRAMES) == 1  # the last is a negative


PRINTED = """\
[data]            split          frames    accident set       negatives  moderate boxes    severe boxes
[data]            train               3               3               0               2               1
[data]              val               1               1               0               0               7
[data]             test               2               1               1               2               0
[data] negatives: 9 found, 1 exact duplicates removed, 1 kept; 640 x 640, gamma 1.2
[data] frames by split: 3/1/2, the paper has 10,469/1,004/649
[data] negatives by split: 0/0/1, the paper has 268/120/120
[data] split used: published; negatives split by frame
[data] leaks, frames of test in train: 1 exact, 2,000 near
[data] leaks, frames of val in train: 0 exact, 0 near
[data] one picture with two truths: 2,000 frames (0 two-folders, 2,000 other-boxes)
[data] one picture with two truths, train: 1,500 left out, 0 merged, 1 marked
[data] one picture with two truths, val: 0 left out, 0 merged, 499 marked
[data] uplink trace: t.csv (rates), 1,200 s, mean 1,234,568 B/s
[data] uplink trace: a gap
[data] fault polygon-row: 2, repaired: replaced by the box around the polygon
[data] fault duplicate-negative: 1, dropped: an exact copy of an earlier accident-free frame
"""  # noqa: E501


def whole() -> dict[str, Any]:
    twins = {"test in train": {"exact": 1, "near": 2000}, "val in train": {"exact": 0, "near": 0}}
    outcomes = {
        "train": {"left out": 1500, "merged": 0, "marked": 1},
        "val": {"left out": 0, "merged": 0, "marked": 499},
    }
    conflicts = {"frames": 2000, "kinds": {"two-folders": 0, "other-boxes": 2000}}
    trace = {
        "file": "t.csv",
        "form": "rates",
        "seconds": 1200,
        "mean_bytes_per_s": 1234567.8,
        "notes": ["a gap"],
    }
    return report() | {
        "leaks": {"frames_with_a_twin": twins},
        "conflicts": conflicts | {"outcomes": outcomes},
        "trace": trace,
    }


def test_the_summary_is_a_table_and_a_line_for_each_thing_to_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_summary(whole())
    assert capsys.readouterr().out == PRINTED


def test_what_there_is_not_is_said_or_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = whole() | {"conflicts": {"frames": 0}, "trace": None}
    nothing["published_split"] = {"found": {}, "paper": {"train": 1000}, "is_the_papers": False}
    print_summary(nothing)
    told = capsys.readouterr().out.splitlines()
    assert "[data] one picture with two truths: none" in told
    assert not any("uplink" in line for line in told)
    assert "[data] frames by split: none of its own, the paper has 1,000" in told
    own = {"found": {"train": 1}, "paper": {"train": 1}, "is_the_papers": True}
    print_summary(whole() | {"published_split": own})
    assert "[data] frames by split: 1, the paper's split" in capsys.readouterr().out


def test_a_table_has_a_named_row_each() -> None:
    assert table("<a>", ["b&"], {"c<": [1000, 2]}) == (
        "<table><tr><th>&lt;a&gt;</th><th>b&amp;</th></tr>"
        "<tr><td>c&lt;</td><td>1,000</td><td>2</td></tr></table>"
    )
