"""Copies look alike, unrelated pictures do not, and all pairs are compared."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from benchmarks.looks_speed import every_pair, orientations, planted
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


@pytest.mark.parametrize("size", [(1280, 720), (720, 576), (417, 311)])
def test_a_picture_of_another_size_has_nearly_the_same_look(size):
    distances = []
    for seed in range(10):
        original = scene(seed, 640)
        copy = encoded(original.resize(size))
        distances.append(looks.distance(looks.look_of(original), looks.look_of(copy)))
    assert max(distances) <= 6, distances


def test_unrelated_pictures_do_not_look_alike():
    found = [looks.look_of(scene(seed, 64)) for seed in range(1000)]
    pairs = np.concatenate(list(looks.alike(found, 255)))
    assert len(pairs) == 1000 * 999 // 2
    assert pairs[:, 2].min() > looks.SAME_PICTURE


@pytest.mark.parametrize("radius", [0, 8, 29, looks.SAME_PICTURE, looks.SAME_PLACE])
def test_exactly_the_pairs_of_an_exhaustive_search_are_found_once(monkeypatch, radius):
    monkeypatch.setattr(looks, "_ROWS", 16)
    monkeypatch.setattr(looks, "_COLUMNS", 96)
    found = planted(700, radius)
    pairs = np.concatenate(list(looks.alike(found, radius)))
    expected = np.concatenate(list(every_pair(found, radius)))
    assert sorted(pairs.tolist()) == sorted(expected.tolist())
    assert len(pairs) >= (radius > 0)


@given(
    look=st.binary(min_size=32, max_size=32),
    flips=st.sets(st.integers(1, 255), max_size=80),
    turn=st.integers(0, 7),
)
def test_a_code_is_never_further_away_than_the_look_in_any_orientation(look, flips, turn):
    spectrum = np.unpackbits(np.frombuffer(look, np.uint8))
    spectrum[0] = 0
    changed = spectrum.copy()
    changed[sorted(flips)] ^= 1
    turned = orientations(changed.reshape(1, 16, 16))[turn]
    pair = [np.packbits(spectrum).tobytes(), np.packbits(turned).tobytes()]
    distance = looks.distance(*pair)
    assert distance <= len(flips)
    codes = looks._codes(looks._words(pair))
    assert np.bitwise_count(codes[0] ^ codes[1]).sum() <= distance


def test_no_look_and_one_look_have_no_pairs():
    assert list(looks.alike([])) == []
    assert np.concatenate(list(looks.alike([bytes(32)]))).shape == (0, 3)
