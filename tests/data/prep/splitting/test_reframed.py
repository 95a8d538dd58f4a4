"""Crops and small turns are found among strangers, and what strangers share does not join them."""

import numpy as np
import pytest
from PIL import Image

from dat_runtime.errors import DataError
from data.prep.splitting.reframed import Compared, reframed
from tests.data.prep.source_builder import scene


def saved(folder, images):
    paths = []
    for number, image in enumerate(images):
        paths.append(folder / f"{number}.png")
        image.save(paths[-1])
    return paths


def pairs_of(paths, is_settled=lambda first, second: np.zeros(len(first), bool)):
    pairs = set()
    for rows in reframed(Compared(paths, "threads"), is_settled):
        pairs |= {(first, second) for first, second, _ in rows.tolist()}
    return pairs


def test_a_turned_picture_is_found_among_strangers(tmp_path):
    images = [scene(seed) for seed in range(20)]
    assert pairs_of(saved(tmp_path, [*images, images[3].rotate(6)])) == {(3, 20)}


def test_a_logo_that_strangers_share_does_not_join_them(tmp_path):
    logo = scene(99, 110)
    images = [scene(seed) for seed in range(6)]
    for image in images:
        image.paste(logo, (8, 8))
    assert pairs_of(saved(tmp_path, images)) == set()


def test_a_settled_pair_is_not_compared(tmp_path):
    paths = saved(tmp_path, [scene(0), scene(0).rotate(6)])
    assert pairs_of(paths, lambda first, second: np.ones(len(first), bool)) == set()


def test_pictures_without_corners_and_no_pictures_have_no_pairs(tmp_path):
    assert pairs_of(saved(tmp_path, [Image.new("RGB", (64, 48))] * 3)) == set()
    assert list(reframed(Compared([], "threads"), np.equal)) == []


def test_a_picture_that_changed_since_is_named(tmp_path):
    path = tmp_path / "changed.jpg"
    path.write_bytes(b"no picture any more")
    with pytest.raises(DataError, match=r"changed while it was read.*"):
        Compared([path], "threads")
