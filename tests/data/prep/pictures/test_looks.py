"""Copies look alike, unrelated pictures do not, and all pairs are compared."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from data.prep.pictures import looks
from tests.data.prep.source_builder import jpeg, scene


def encoded(image, quality=80):
    return Image.open(io.BytesIO(jpeg(image, quality=quality))).convert("RGB")


def noisy(image):
    noise = np.random.default_rng(0).normal(0, 12, (*image.size[::-1], 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


COPIES = {
    "encoded anew at quality 30": lambda p: encoded(p, 30),
    "half the size": lambda p: encoded(p.resize((160, 160))),
    "another shape": lambda p: p.resize((320, 180)),
    "mirrored": lambda p: encoded(ImageOps.mirror(p)),
    "upside down": ImageOps.flip,
    "turned by 90 degrees": lambda p: p.rotate(90),
    "turned by 270 degrees and mirrored": lambda p: ImageOps.mirror(p.rotate(270)),
    "grey": lambda p: encoded(p.convert("L").convert("RGB")),
    "noisy": lambda p: encoded(noisy(p), 90),
    "brightened": lambda p: p.point([round(255 * (v / 255) ** (1 / 1.5)) for v in range(256)] * 3),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_a_copy_looks_like_its_original(change):
    for seed in range(20):
        original = scene(seed)
        copy = looks.look_of(change(original))
        assert looks.distance(looks.look_of(original), copy) <= looks.SAME_PICTURE


def test_unrelated_pictures_do_not_look_alike():
    found = [looks.look_of(scene(seed, 64)) for seed in range(1000)]
    pairs = np.concatenate(list(looks.alike(found, 255)))
    assert len(pairs) == 1000 * 999 // 2
    assert pairs[:, 2].min() > looks.SAME_PICTURE


def test_all_pairs_of_all_blocks_are_compared_once(monkeypatch):
    rng = np.random.default_rng(0)
    found = [rng.bytes(32) for _ in range(50)]
    found[41], found[7], found[8] = found[3], found[30], found[30]
    monkeypatch.setattr(looks, "_BLOCK", 16)
    pairs = np.concatenate(list(looks.alike(found, 0)))[:, :2].tolist()
    assert sorted(pairs) == [[3, 41], [7, 8], [7, 30], [8, 30]]
