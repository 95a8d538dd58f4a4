"""Crops and small turns, by features whose places are set and by whole pictures."""

import cv2
import numpy as np
import pytest
from PIL import Image

from data.prep.pictures import local_features as lf
from data.prep.pictures.looks import view_of

RANDOM = np.random.default_rng(4)
DESCRIPTIONS = RANDOM.integers(0, 256, (40, 32)).astype(np.uint8)
PLACES = RANDOM.integers(40, 170, (40, 2)).astype(np.uint8)


def scene(contrast: int = 120, side: int = 640) -> Image.Image:
    """Many grey rectangles on grey."""
    rng = np.random.default_rng(1)
    drawn = np.full((side, side), 120, np.uint8)
    for _ in range(60):
        x, y, w, h = rng.integers(10, side - 110, 2).tolist() + rng.integers(20, 100, 2).tolist()
        level = 120 + int(rng.integers(-contrast, contrast + 1))
        cv2.rectangle(drawn, (x, y), (x + w, y + h), level, -1)
    return Image.fromarray(drawn)


def moved(scale: float, degrees: float, shift: tuple[float, float]) -> lf.Features:
    """The features of `PLACES` where a scale, a turn and a shift take them, in another order."""
    turn = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    there = PLACES.astype(float) @ matrix.T + shift
    order = np.random.default_rng(5).permutation(len(there))
    return lf.Features(np.rint(there).astype(np.uint8)[order], DESCRIPTIONS[order])


def test_the_strongest_corners_are_taken() -> None:
    found = lf.features_of(scene())
    assert found.places.shape == (96, 2)
    assert found.descriptions.shape == (96, 32)
    assert found.places.dtype == found.descriptions.dtype == np.uint8
    square = np.asarray(scene().resize((213, 213), Image.Resampling.BOX, reducing_gap=1.0))
    orb = cv2.ORB_create(nfeatures=96, nlevels=6, edgeThreshold=16, fastThreshold=20)
    points, descriptions = orb.detectAndCompute(square, None)
    order = sorted(range(len(points)), key=lambda i: -points[i].response)[:96]
    places = np.array([points[i].pt for i in order]).astype(np.uint8)
    np.testing.assert_array_equal(found.places, places)
    np.testing.assert_array_equal(found.descriptions, descriptions[order])


def test_a_faint_picture_is_asked_again_and_a_blank_one_has_none() -> None:
    faint = lf.features_of(scene(contrast=14))
    square = np.asarray(scene(contrast=14).resize((213, 213), Image.Resampling.BOX))
    counts = [
        len(cv2.ORB_create(96, nlevels=6, edgeThreshold=16, fastThreshold=level).detect(square))
        for level in (20, 5)
    ]
    assert counts[0] < len(faint.places) <= counts[1]
    blank = lf.features_of(Image.new("L", (640, 640), 9))
    assert (blank.places.shape, blank.descriptions.shape) == ((0, 2), (0, 32))
    assert blank.places.dtype == blank.descriptions.dtype == np.uint8


@pytest.mark.parametrize(
    ("scale", "degrees", "shift"), [(1.0, 0.0, (20, -9)), (1.15, 6.0, (5, -20)), (0.8, -5, (0, 30))]
)
def test_a_map_is_found_in_pixels_of_views(scale, degrees, shift) -> None:
    found = lf.mapped(lf.Features(PLACES, DESCRIPTIONS), moved(scale, degrees, shift))
    assert found is not None
    assert found.shape == (2, 3)
    turn = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    for x, y in ((10, 10), (100, 30), (60, 150)):
        here = np.array([x, y])
        there = matrix @ here + shift
        view, seen = ((place + 0.5) * 64 / 213 - 0.5 for place in (here, there))
        np.testing.assert_allclose(found[:, :2] @ view + found[:, 2], seen, atol=0.3)


@pytest.mark.parametrize(
    ("scale", "is_one"), [(0.55, True), (0.45, False), (1.9, True), (2.1, False)]
)
def test_a_map_shows_half_to_twice_as_large(scale, is_one) -> None:
    centre = (PLACES.astype(float) - 105) * (0.5 if scale > 1 else 1)
    here = lf.Features(np.rint(centre + 105).astype(np.uint8), DESCRIPTIONS)
    there = lf.Features(np.rint(scale * centre + 105).astype(np.uint8), DESCRIPTIONS)
    assert (lf.mapped(here, there) is not None) == is_one


@pytest.mark.parametrize(("count", "is_enough"), [(5, False), (6, True)])
def test_six_features_agree_on_a_map(count, is_enough) -> None:
    first = lf.Features(PLACES[:count], DESCRIPTIONS[:count])
    assert (lf.mapped(first, moved(1.0, 0.0, (9, 9))) is not None) == is_enough
    assert (lf.mapped(moved(1.0, 0.0, (9, 9)), first) is not None) == is_enough


def test_features_that_agree_on_no_map_make_none() -> None:
    elsewhere = np.random.default_rng(8).integers(0, 213, (7, 2)).astype(np.uint8)
    first = lf.Features(PLACES[:7], DESCRIPTIONS[:7])
    assert lf.mapped(first, lf.Features(elsewhere, DESCRIPTIONS[:7])) is None
    one_place = np.full((7, 2), 50, np.uint8)
    assert lf.mapped(first, lf.Features(one_place, DESCRIPTIONS[:7])) is None


def test_features_match_where_each_is_the_others_nearest_within_64_bits() -> None:
    changed = DESCRIPTIONS[:8].copy()
    changed[0, :8] ^= 255  # 64 bits
    changed[1, :8] ^= 255
    changed[1, 8] ^= 1  # one more
    changed[2] = changed[3]  # the first of two equals is nearest, and not its own
    here, there = lf._matches(
        lf.Features(PLACES[:8], DESCRIPTIONS[:8]), lf.Features(PLACES[20:28], changed)
    )
    assert here.dtype == there.dtype == np.float32
    kept = [0, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(here, PLACES[kept])
    np.testing.assert_array_equal(there, PLACES[20:28][[0, 2, 4, 5, 6, 7]])
    few = lf._matches(lf.Features(PLACES[:5], DESCRIPTIONS[:5]), moved(1.0, 0.0, (0, 0)))
    assert [(part.shape, part.dtype) for part in few] == [((0, 2), np.float32)] * 2


def shifted(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def test_what_both_pictures_show_is_compared() -> None:
    whole = scene()
    first = view_of(whole)
    crop = view_of(whole.crop((64, 32, 640, 608)))
    scale = 640 / 576
    exact = np.array([[scale, 0, 0.0], [0, scale, 0.0]])
    exact[:, 2] = [(0.5 - 6.4) * scale - 0.5, (0.5 - 3.2) * scale - 0.5]
    found = lf.overlaid(first, crop, exact)
    assert found is not None
    assert found <= 12
    near = exact + np.array([[0.01, -0.01, 0.8], [0.01, 0.01, -0.8]])
    refined = lf.overlaid(first, crop, near)
    assert refined is not None
    assert abs(refined - found) <= 6
    np.testing.assert_allclose(lf._refined(first, crop, near), exact, atol=0.35)
    other = lf.overlaid(first, view_of(whole.rotate(90)), shifted(0, 0))
    assert other is None or other > 60
    assert lf.overlaid(first, first, shifted(0, 0)) == 0


@pytest.mark.parametrize(("shown", "is_enough"), [(20, True), (19, False)])
def test_too_little_that_both_show_is_not_compared(monkeypatch, shown, is_enough) -> None:
    monkeypatch.setattr(lf, "_refined", lambda first, second, found: found)
    first = np.full((64, 64), 4, np.uint8)
    second = first.copy()
    second[:, shown:] = 3  # black: it belongs to neither
    assert (lf.overlaid(first, second, shifted(0, 0)) is not None) == is_enough
    assert (lf.overlaid(second, first, shifted(0, 0)) is not None) == is_enough


def test_pictures_that_do_not_correlate_keep_the_map_of_their_features() -> None:
    flat = np.full((64, 64), 50, np.uint8)
    given = shifted(2, 3)
    assert lf._refined(flat, view_of(scene()), given) is given
