"""The rules of labels, seen through rows of YOLO label files."""

import pytest

from dat_runtime.types import Box
from data.prep.importers.labels import UNIT
from data.prep.importers.yolo import parse_labels

NAMES = ("moderate", "severe")


def parse(text):
    accidents, faults = parse_labels(text, "labels/a.txt", NAMES)
    return accidents, [(f.kind, f.line) for f in faults]


def test_a_sound_file_gives_its_boxes_and_no_fault():
    accidents, faults = parse("0 0.5 0.5 0.5 0.25\n1 0.25 0.25 0.5 0.5\n")
    assert [a.severity for a in accidents] == ["moderate", "severe"]
    assert accidents[0].box == Box(0.25, 0.375, 0.75, 0.625, UNIT)
    assert faults == []


def test_class_ids_follow_the_order_of_the_source_names():
    accidents, _ = parse_labels("0 0.5 0.5 0.5 0.5\n", "a.txt", ("severe", "moderate"))
    assert accidents[0].severity == "severe"


def test_a_polygon_row_becomes_the_box_around_it():
    accidents, faults = parse("1 0.1 0.2 0.5 0.3 0.3 0.9\n")
    assert accidents[0].box == Box(0.1, 0.2, 0.5, 0.9, UNIT)
    assert faults == [("polygon-row", 1)]


def test_a_box_a_little_outside_is_clipped():
    accidents, faults = parse("0 0.5 0.5 0.5 0.5\n1 0.95 0.5 0.2 0.5\n")
    assert accidents[1].box.x2 == 1.0
    assert faults == [("outside-frame", 2)]


def test_rounding_at_the_edge_is_no_fault():
    assert parse("0 0.5000004 0.5 1 1\n")[1] == []


@pytest.mark.parametrize("row", ["0 0 0 0 0", "0 0.5 0.5 0 0.2", "0 0.0001 0.0001 0.0002 0.0002"])
def test_a_near_zero_box_is_dropped_and_the_others_stay(row):
    accidents, faults = parse(f"1 0.5 0.5 0.5 0.5\n{row}\n")
    assert [a.severity for a in accidents] == ["severe"]
    assert faults == [("near-zero-box", 2)]


def test_equal_rows_count_once():
    accidents, faults = parse("0 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.50\n")
    assert len(accidents) == 1
    assert faults == [("duplicate-row", 2)]


@pytest.mark.parametrize("order", ["01", "10"])
def test_of_two_classes_for_one_box_the_severe_one_stays(order):
    accidents, faults = parse("".join(f"{c} 0.5 0.5 0.5 0.5\n" for c in order))
    assert [a.severity for a in accidents] == ["severe"]
    assert faults == [("two-classes", 2)]


def test_a_missing_final_newline_loses_no_row():
    accidents, faults = parse("0 0.5 0.5 0.5 0.5\n1 0.2 0.2 0.1 0.1")
    assert len(accidents) == 2
    assert faults == [("no-final-newline", 2)]


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_an_empty_file_is_an_accident_free_frame(text):
    assert parse(text) == ((), [("empty-label", None)])


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("2 0.5 0.5 0.5 0.5", "unknown-class"),
        ("-1 0.5 0.5 0.5 0.5", "unknown-class"),
        ("0.5 0.5 0.5 0.5 0.5", "unknown-class"),
        ("0 nan 0.5 0.5 0.5", "not-a-number"),
        ("0 0.5 inf 0.5 0.5", "not-a-number"),
        ("0 0.5 0.5 wide 0.5", "not-a-number"),
        ("nan 0.5 0.5 0.5 0.5", "not-a-number"),
        ("0 0.5 0.5 0.5", "malformed-row"),
        ("0 0.5 0.5 0.5 0.5 0.9", "malformed-row"),
        ("0 0.5 0.5 -0.5 0.5", "malformed-row"),
        ("0", "malformed-row"),
        ("0 320 240 64 48", "not-normalised"),
    ],
)
def test_a_row_that_cannot_be_repaired_is_refused_by_its_line(row, kind):
    accidents, faults = parse(f"1 0.5 0.5 0.5 0.5\n\n{row}\n")
    assert len(accidents) == 1
    assert faults == [(kind, 3)]
