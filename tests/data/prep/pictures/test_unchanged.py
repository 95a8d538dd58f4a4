"""What is in the boxes of two pictures is compared, in whichever orientation they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.types import Box
from data.prep.importers.labels import UNIT
from data.prep.pictures.looks import view_of
from data.prep.pictures.unchanged import (
    SIDE,
    STRAIGHT,
    TURNS,
    correlation,
    turn_between,
    unchanged,
)
from tests.data.prep.pictures.test_looks import encoded, noisy
from tests.data.prep.source_builder import scene

MIDDLE = Box(0.4, 0.4, 0.7, 0.6, UNIT)
edges = st.tuples(st.integers(0, SIDE - 1), st.integers(1, SIDE)).filter(lambda e: e[0] < e[1])


def view(image):
    return view_of(image.convert("L"))


def with_car(background, left):
    """A still camera's frame: a car 48 of 320 pixels wide, from `left` on; and its place."""
    frame = background.copy()
    frame.paste(scene(99).resize((48, 32)), (left, 140))
    return frame, Box(left / 320, 140 / 320, (left + 48) / 320, 172 / 320, UNIT)


@given(st.sampled_from(TURNS), edges, edges)
def test_a_box_turns_as_the_picture_does_and_back(turn, columns, rows):
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[slice(*rows), slice(*columns)] = 255
    box = Box(columns[0] / SIDE, rows[0] / SIDE, columns[1] / SIDE, rows[1] / SIDE, UNIT)
    turned = turn.of_box(box)
    lit_rows, lit_columns = np.nonzero(turn.of_view(picture))
    assert (lit_columns.min() / SIDE, lit_rows.min() / SIDE) == pytest.approx(turned[:2])
    assert ((lit_columns.max() + 1) / SIDE, (lit_rows.max() + 1) / SIDE) == pytest.approx(
        turned[2:4]
    )
    assert turn.back(turned)[:4] == pytest.approx(box[:4])


def test_the_turn_between_two_pictures_is_found():
    for seed in range(5):
        original = view(scene(seed))
        for turn in TURNS:
            found = turn_between(original, turn.of_view(original))
            assert np.array_equal(found.of_view(turn.of_view(original)), original)
    assert turn_between(original, original) == STRAIGHT


COPIES = {
    "encoded anew at quality 30": lambda p: encoded(p, 30),
    "half the size": lambda p: p.resize((160, 160)),
    "grey": lambda p: encoded(p.convert("L").convert("RGB")),
    "noisy": lambda p: encoded(noisy(p), 90),
    "darker": lambda p: p.point([v // 2 for v in range(256)] * 3),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_a_copy_is_unchanged_in_its_boxes_and_everywhere(change):
    for seed in range(10):
        original = scene(seed, side=640)
        assert unchanged(view(original), view(change(original)), [MIDDLE])
        assert unchanged(view(original), view(change(original)), [])


@pytest.mark.parametrize("moved", [4, 8, 16, 40])
def test_a_car_that_moved_changes_the_picture(moved):
    before, first_place = with_car(scene(3), 100)
    after, second_place = with_car(scene(3), 100 + moved)
    assert not unchanged(view(before), view(after), [first_place, second_place])
    assert not unchanged(view(before), view(after), [])


def test_what_moves_outside_the_boxes_does_not_change_what_is_in_them():
    before, _ = with_car(scene(3), 20)
    after, _ = with_car(scene(3), 40)
    assert unchanged(view(before), view(after), [Box(0.6, 0.1, 0.9, 0.35, UNIT)])


def test_pictures_without_contrast_agree_in_nothing():
    flat = np.full((SIDE, SIDE), 90, np.uint8)
    assert correlation(flat, flat) == 0.0
    assert not unchanged(flat, flat, [MIDDLE])


def test_a_small_box_at_the_edge_has_enough_pixels_to_be_compared():
    seen = view(scene(1))
    assert unchanged(seen, seen, [Box(0.995, 0.995, 1, 1, UNIT)])
