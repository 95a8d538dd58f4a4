"""Clips of rendered frames: a clip is one camera's place, its frames show other traffic there.

A place belongs to one split: `split` is part of every seed.
"""

from collections.abc import Iterator

import numpy as np

from dat_runtime.draw import Image, encode_jpeg
from dat_runtime.types import SEVERITIES, Accident
from data.prep.rendering import frames, places
from data.prep.rendering.camera import REFERENCE_SIDE

FRAMES_PER_CLIP = 3
COLLISIONS = {0: 0.03, 1: 0.8, 2: 0.13, 3: 0.04}
"""Collisions of a frame of the set with boxes, and how often a frame has so many."""

NEGATIVES_FROM = 10
"""Added to a split's number, so that accident-free frames show places of their own."""


def accident_frames(
    seed: int, split: int, count: int, size: int = REFERENCE_SIDE
) -> Iterator[tuple[str, bytes, list[Accident]]]:
    """`count` frames of the set with boxes: name, JPEG, accidents (most one, some 0, 2 or 3)."""
    for clip, frame, place, rng in _shots(seed, split, count, size):
        many = int(rng.choice(list(COLLISIONS), p=list(COLLISIONS.values())))
        severities = [SEVERITIES[i] for i in rng.integers(0, len(SEVERITIES), many)]
        accidents: list[Accident] = []
        if severities:
            image, accidents = frames.accident(rng, place, severities)
        else:
            image = frames.ordinary(rng, place)
        yield f"cam{split}{clip:03d}_{frame:04d}", _jpeg(image, place), accidents


def negative_frames(
    seed: int, split: int, count: int, size: int = REFERENCE_SIDE
) -> Iterator[tuple[str, bytes]]:
    """`count` accident-free frames: name, JPEG."""
    for clip, frame, place, rng in _shots(seed, NEGATIVES_FROM + split, count, size):
        yield f"test{split}{clip:02d}_{frame:04d}", _jpeg(frames.ordinary(rng, place), place)


def _shots(
    seed: int, split: int, count: int, size: int
) -> Iterator[tuple[int, int, places.Place, np.random.Generator]]:
    """Clip number, frame number, place and generator of each of `count` frames.

    Each frame has a seed of its own, so a larger count does not change the first ones.
    """
    for i in range(count):
        clip, nth = divmod(i, FRAMES_PER_CLIP)
        if nth == 0:
            place = places.place(np.random.default_rng([seed, split, clip]), size)
        # Numbered as if every seventh frame of a video were kept, from one of the first seven on.
        frame = 7 * nth + clip % 7
        yield clip, frame, place, np.random.default_rng([seed, split, clip, nth + 1])


def _jpeg(image: Image, place: places.Place) -> bytes:
    return encode_jpeg(image, place.weather.jpeg_quality)
