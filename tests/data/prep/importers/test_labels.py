"""The rules of labels, seen through rows of YOLO label files."""

import pytest

from dat_runtime.types import Accident, Box, Size
from data.prep.importers.faults import Fault
from data.prep.importers.labels import (
    UNIT,
    Row,
    accident_of,
    box_of_pixels,
    left_out,
    merged,
    no_accident,
    without_severity,
)
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


def unit(x1, y1, x2, y2):
    return Box(x1, y1, x2, y2, UNIT)


def faults_of(row):
    return [kind for kind, _ in row.faults]


SIDES = [(-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
"""Which edge moves outward, and to which side."""


@pytest.mark.parametrize("side", SIDES)
def test_each_edge_may_be_outside_by_a_rounding_then_is_clipped_then_is_refused(side):
    for by, kinds, is_there in (
        (0, [], True),
        (0.9e-6, [], True),
        (1.1e-6, ["outside-frame"], True),
        (0.5, ["outside-frame"], True),
        (0.51, ["not-normalised"], False),
    ):
        box = unit(*(edge + by * out for edge, out in zip((0, 0, 1, 1), side, strict=True)))
        row = accident_of(box, "severe")
        assert (faults_of(row), row.accident is not None) == (kinds, is_there)
        if is_there:
            assert row.accident.box == unit(0, 0, 1, 1)
            assert row.accident.severity == "severe"


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ((0.5, 0.5, 0.4, 0.6), "malformed-row"),
        ((0.5, 0.5, 0.6, 0.4), "malformed-row"),
        ((0.5, 0.5, 0.5, 0.9), "near-zero-box"),
        ((0.5, 0.5, 0.9, 0.5019), "near-zero-box"),
        ((-0.4, 0, 0.001, 1), "near-zero-box"),  # only touches the frame
        ((1.1, 0, 1.4, 1), "near-zero-box"),
        ((0.5, 0.5, 0.9, 0.5021), None),
        ((0, 0, 0.002, 0.002), None),
    ],
)
def test_a_box_without_an_inside_is_none(box, kind):
    row = accident_of(unit(*box), "severe")
    assert faults_of(row) == ([kind] if kind else [])
    assert (row.accident is None) == bool(kind)


def test_what_was_wrong_with_a_box_is_told_with_its_edges():
    assert accident_of(unit(0.5, 0.25, 0.4, 1), "severe").faults == (
        ("malformed-row", "negative width or height: x 0.5..0.4, y 0.25..1"),
    )
    assert accident_of(unit(0.5, 0.25, 1.25, 1), "severe", polygon_points=5).faults == (
        ("polygon-row", "5 points"),
        ("outside-frame", "x 0.5..1.25, y 0.25..1"),
    )


def test_pixels_become_shares_of_their_axis():
    assert box_of_pixels(10, 10, 30, 40, Size(100, 50)) == unit(0.1, 0.2, 0.3, 0.8)


def test_a_class_that_is_no_accident_gives_none_for_its_reason():
    assert without_severity("ignore", "class 3") == Row(None, (("ignored-class", "class 3"),))
    assert without_severity("none", "class 3") == Row(None, (("none-class", "class 3"),))
    assert without_severity("severe", "class 3") is None


def test_rows_of_one_frame_give_each_box_once_with_the_worst_severity_and_all_faults():
    whole, half = unit(0, 0, 1, 1), unit(0, 0, 0.5, 1)
    rows = [
        Row(Accident(whole, "moderate"), (("outside-frame", "a"), ("polygon-row", "b"))),
        no_accident("malformed-row", "c"),
        Row(Accident(half, "severe")),
        Row(Accident(whole, "severe")),
        Row(Accident(half, "moderate")),
        Row(Accident(half, "severe")),
    ]
    accidents, faults = merged(rows, "f", [1, "the second", 3, 4, "the fifth", 6])
    assert accidents == (Accident(whole, "severe"), Accident(half, "severe"))
    assert faults == [
        Fault("outside-frame", "f", 1, "a"),
        Fault("polygon-row", "f", 1, "b"),
        Fault("malformed-row", "f", None, "the second: c"),
        Fault("two-classes", "f", 4, "an earlier row has the other class"),
        Fault("two-classes", "f", None, "the fifth: an earlier row has the other class"),
        Fault("duplicate-row", "f", 6, "equals an earlier row"),
    ]


@pytest.mark.parametrize(
    ("kinds", "boxes", "reason"),
    [
        ((), 0, None),
        (("outside-frame",), 1, None),
        (("near-zero-box", "ignored-class"), 1, None),
        (("unknown-class", "near-zero-box", "malformed-row"), 1,
         ("bad-label", "its label has: malformed-row, unknown-class")),
        (("ignored-class", "near-zero-box", "crowd-region"), 0,
         ("no-usable-box", "no box of its label is usable: crowd-region, near-zero-box")),
        (("ignored-class", "none-class"), 0,
         ("only-ignored", "all its boxes are of ignored classes")),
        (("none-class",), 0, None),
    ],
)  # fmt: skip
def test_a_frame_is_left_out_for_the_gravest_reason(kinds, boxes, reason):
    accidents = [Accident(unit(0, 0, 1, 1), "severe")] * boxes
    assert left_out(accidents, [Fault(kind, "f", 1, "x") for kind in kinds]) == reason
