import dataclasses

import pytest

from dat_runtime.types import (
    SEVERITIES,
    Accident,
    Box,
    Size,
    highest_severity,
    reading_order,
)

FRAME = Size(100, 50)


def box(x1: float, y1: float, x2: float, y2: float, frame: Size = FRAME) -> Box:
    return Box(x1, y1, x2, y2, frame)


def test_class_order_is_moderate_then_severe() -> None:
    assert SEVERITIES == ("moderate", "severe")


@pytest.mark.parametrize("sides", [(0, 5), (5, 0), (-1, 5)])
def test_a_frame_has_positive_sides(sides: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Size(*sides)


def test_a_frame_of_one_pixel_is_one() -> None:
    assert (Size(1, 1).width, Size(1, 1).height) == (1, 1)


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FRAME.width = 3  # type: ignore[misc]


def test_a_box_moves_between_frames_of_a_picture_and_back() -> None:
    there = box(10, 10, 30, 20).to(Size(200, 200))
    assert (there.x1, there.y1, there.x2, there.y2) == (20, 40, 60, 80)
    assert there.frame == Size(200, 200)
    assert there.to(FRAME) == box(10, 10, 30, 20)


def test_clipping_keeps_a_box_inside_its_frame() -> None:
    assert box(-5, -5, 120, 60).clipped() == box(0, 0, 100, 50)
    assert box(150, 10, 160, 20).clipped().area == 0
    assert box(-5, -5, 0.5, 0.25).clipped() == box(0, 0, 0.5, 0.25)
    assert box(-9, -9, -5, -5).clipped() == box(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("edges", "pixels"),
    [
        ((1.4, 1.6, 8.5, 9.5), (1, 2, 8, 10)),
        ((-3, -3, 200, 200), (0, 0, 100, 50)),
        ((5, 5, 5, 5), (5, 5, 6, 6)),
        ((100, 50, 100, 50), (99, 49, 100, 50)),
    ],
)
def test_whole_pixels_lie_inside_and_are_never_empty(
    edges: tuple[float, float, float, float], pixels: tuple[int, int, int, int]
) -> None:
    assert box(*edges).pixels() == pixels


def test_iou_of_equal_touching_and_half_overlapping_boxes() -> None:
    assert box(0, 0, 10, 10).iou(box(0, 0, 10, 10)) == 1
    assert box(0, 0, 10, 10).iou(box(10, 0, 20, 10)) == 0
    assert box(0, 0, 10, 10).iou(box(0, 5, 10, 15)) == pytest.approx(1 / 3)
    assert box(5, 5, 5, 5).iou(box(5, 5, 5, 5)) == 0
    assert box(0, 0, 0.5, 0.5).iou(box(0, 0, 0.5, 0.25)) == 0.5


@pytest.mark.parametrize(
    "other", [(20, 0, 30, 10), (0, 20, 10, 30), (20, 20, 30, 30), (10, 0, 20, 10), (0, 10, 10, 20)]
)
def test_boxes_that_share_one_axis_or_none_do_not_overlap(other: tuple[int, int, int, int]) -> None:
    assert box(0, 0, 10, 10).iou(box(*other)) == 0


def test_what_is_read_first_is_severe_then_left_then_above() -> None:
    accidents = [
        Accident(box(5, 0, 9, 9), "moderate"),
        Accident(box(3, 4, 9, 9), "moderate"),
        Accident(box(3, 2, 9, 9), "moderate"),
        Accident(box(7, 0, 9, 9), "severe"),
    ]
    assert [a.box[:2] for a in sorted(accidents, key=reading_order)] == [
        (7, 0), (3, 2), (3, 4), (5, 0),
    ]  # fmt: skip


def test_boxes_of_different_frames_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different frames"):
        box(0, 0, 1, 1).iou(box(0, 0, 1, 1, Size(10, 10)))


def test_the_highest_severity_of_a_frame() -> None:
    assert highest_severity([]) == "none"
    assert highest_severity(["moderate", "moderate"]) == "moderate"
    assert highest_severity(["moderate", "severe"]) == "severe"
