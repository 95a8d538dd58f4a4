"""Patches of a picture as Qwen2-VL's image processor makes them, without Transformers."""

import numpy as np

from dat_runtime.draw import Image
from dat_runtime.edge.engines import Floats
from dat_runtime.offload import PATCH

MERGE = 2
"""Patches of a group, each way: they lie together."""

FRAMES = 2
"""A still picture counts as two frames of a video that are alike."""


def patches_of(image: Image, mean: Floats, std: Floats) -> Floats:
    """The input of an encoder's graph, float32 (N, 1176): groups of 2 x 2, row by row.

    Args:
        image: uint8 BGR, at the size at which the model sees it.
        mean, std: of red, green and blue, of colours from 0 to 1.

    Raises:
        ValueError: the sides are no multiples of a group's.
    """
    height, width, _ = image.shape
    if height % (PATCH * MERGE) or width % (PATCH * MERGE):
        raise ValueError(f"a picture of {width} x {height} pixels, expected multiples of 28")
    rows, columns = height // PATCH, width // PATCH
    scaled = (image[:, :, ::-1].astype(np.float32) - 255 * mean) / (255 * std)
    parts = scaled.reshape(rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3)
    grouped = parts.transpose(0, 3, 1, 4, 6, 2, 5)  # group, patch in it, colour, pixel
    doubled = np.repeat(grouped[:, :, :, :, :, None], FRAMES, axis=5)
    return np.ascontiguousarray(doubled.reshape(rows * columns, -1), np.float32)
