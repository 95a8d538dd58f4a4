"""Crops and small turns are found among strangers, and what strangers share does not join them."""

import numpy as np
from PIL import Image

from data.prep.pictures import records
from data.prep.splitting.reframed import Compared, reframed
from tests.data.prep.source_builder import scene


def pairs_of(images, is_settled=lambda first, second: np.zeros(len(first), bool)):
    pairs = set()
    compared = Compared(records.of_pictures(images), range(len(images)))
    for rows in reframed(compared, is_settled):
        pairs |= {(first, second) for first, second, _ in rows.tolist()}
    return pairs


def test_a_turned_picture_is_found_among_strangers():
    images = [scene(seed) for seed in range(20)]
    assert pairs_of([*images, images[3].rotate(6)]) == {(3, 20)}


def test_a_logo_that_strangers_share_does_not_join_them():
    logo = scene(99, 110)
    images = [scene(seed) for seed in range(6)]
    for image in images:
        image.paste(logo, (8, 8))
    assert pairs_of(images) == set()


def test_a_settled_pair_is_not_compared():
    images = [scene(0), scene(0).rotate(6)]
    assert pairs_of(images, lambda first, second: np.ones(len(first), bool)) == set()


def test_pictures_without_corners_and_no_pictures_have_no_pairs():
    assert pairs_of([Image.new("RGB", (64, 48))] * 3) == set()
    assert list(reframed(Compared(records.of_pictures([]), []), np.equal)) == []
