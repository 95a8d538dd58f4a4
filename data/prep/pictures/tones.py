"""The size and tones of the external negatives (section 4.1): 640 x 640, gamma corrected.

The paper gives no gamma: 1.2 is our choice, which brightens mid tones a little.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 640
"""Pixels, as in the paper."""
GAMMA = 1.2

_TONES = [round(255 * (value / 255) ** (1 / GAMMA)) for value in range(256)]
"""Gamma correction of 8-bit tones: v -> v^(1 / gamma) of values from 0 to 1."""


def corrected(rgb: Image.Image) -> Image.Image:
    """The picture resampled to 640 x 640 (bicubic) and gamma corrected."""
    if rgb.size != (SIDE, SIDE):
        rgb = rgb.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return rgb.point(_TONES * 3)  # one table for each of red, green and blue


def of_grey(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey levels as they are in the corrected picture, nearly."""
    return np.array(_TONES, np.uint8)[grey]
