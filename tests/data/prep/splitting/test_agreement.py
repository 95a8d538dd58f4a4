"""What two frames' labels contradict each other in, at the bounds, and one truth made of many."""

import pytest

from data.prep.pictures.unchanged import STRAIGHT, Turn
from data.prep.splitting.agreement import Claim, agreement, contradiction, fused
from tests.data.prep.splitting.kept_builder import accident, kept

WHOLE = accident(0, 0, 1, 1)
MIRROR = Turn(transposed=False, mirrored=True, upside_down=False)


def wide(start: float, end: float, severity="moderate"):
    """As high as the picture, so that overlaps are those of intervals."""
    return accident(start, 0, end, 1, severity)


@pytest.mark.parametrize(
    ("here", "there", "claim"),
    [
        ((), (), Claim("two-folders", "accident-free here, an accident in",
                       "an accident here, not in")),
        ((WHOLE,), (), Claim("boxes-and-none", "1 box here, no box in", "no box here, 1 box in")),
        ((), (WHOLE, WHOLE), Claim("boxes-and-none", "no box here, 2 boxes in",
                                   "2 boxes here, no box in")),
        ((WHOLE,), (WHOLE, WHOLE, WHOLE), Claim("other-boxes", "1 box here, 3 boxes in",
                                                "3 boxes here, 1 box in")),
        ((wide(0, 0.625),), (wide(0, 0.5625),), None),
        ((WHOLE,), (wide(0, 0.89),), Claim(
            "other-boxes", *["boxes agree only to IoU 0.89 with those of"] * 2)),
        ((WHOLE,), (wide(0, 1, "severe"),), Claim(
            "other-boxes", *["the severity is another one in"] * 2)),
        ((WHOLE,), (wide(0, 0.5, "severe"),), Claim(
            "other-boxes", *["boxes agree only to IoU 0.50 with those of"] * 2)),
    ],
)  # fmt: skip
def test_what_two_frames_of_one_picture_contradict_each_other_in(here, there, claim):
    assert contradiction(kept("a", *here), kept("b", *there), STRAIGHT) == claim


def test_the_other_frames_boxes_are_turned_before_they_are_compared():
    left, right = kept("a", wide(0, 0.3)), kept("b", wide(0.7, 1))
    assert contradiction(left, right, MIRROR) is None
    assert contradiction(left, right, STRAIGHT).first.startswith("boxes agree only to IoU 0.00")


def test_boxes_are_matched_from_the_best_overlap_down():
    # Shifted by s, intervals of 0.4 overlap by (0.4 - s) / (0.4 + s).
    ours = [wide(0, 0.4), wide(0.05, 0.45)]
    theirs = [wide(0.1, 0.5), wide(0.02, 0.42)]
    for first, second in ((ours, theirs), (ours[::-1], theirs), (theirs, ours)):
        assert agreement(first, second) == (pytest.approx(0.35 / 0.45), True)


def test_of_equal_overlaps_boxes_of_one_severity_are_a_pair():
    both = [wide(0, 1, "moderate"), wide(0, 1, "severe")]
    assert agreement(both, both[::-1]) == agreement(both, both) == (1.0, True)
    assert agreement(both, [WHOLE, WHOLE]) == (1.0, False)
    # The severity that another pair shares does not make up for it.
    theirs = [wide(0, 0.3, "severe"), wide(0.5, 0.75)]
    assert agreement([wide(0, 0.3), wide(0.5, 1)], theirs) == (0.5, False)


def test_boxes_that_overlap_by_half_are_one_accident_with_the_mean_box_and_the_worst_severity():
    assert fused([wide(0, 0.5, "severe"), wide(0, 1)]) == (wide(0, 0.75, "severe"),)
    assert fused([wide(0, 0.49), wide(0, 1)]) == (wide(0, 0.49), wide(0, 1))
    # The third is compared with the mean of the first two, and joins the first that it fits.
    assert fused([wide(0, 1), wide(0, 0.5), wide(0, 0.25), wide(0.8, 1), wide(0, 0.375)]) == (
        wide(0, (1 + 0.5 + 0.375) / 3),
        wide(0, 0.25),
        wide(0.8, 1),
    )
    assert fused([]) == ()
