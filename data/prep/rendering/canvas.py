"""The picture being painted, and the drawing that all its parts share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dat_runtime.draw import Image
from data.prep.rendering.camera import REFERENCE_SIDE, Floats

Mask = NDArray[np.uint8]
"""uint8 (height, width): one value per pixel."""

Colour = Floats | Sequence[float]
"""Three values in [0, 255], BGR as in OpenCV."""

SUBPIXEL = 4
"""Fractional bits of the coordinates given to OpenCV, its `shift`: 1/16 pixel."""

NOISE_SIDE = 2048
"""Side of the noise tiles, pixels; larger than a frame and than the ground's texture."""


class Light(NamedTuple):
    """A light: a disc around (x, y), in pixels, and its BGR colour.

    `is_pool`: what a lamp throws on the ground. Only a lamp itself has a halo in the lens.
    """

    x: float
    y: float
    radius: float
    colour: tuple[float, float, float]
    is_pool: bool = False


@dataclass
class Canvas:
    """The picture being painted, and who owns each pixel.

    Attributes:
        image: uint8 (size, size, 3), BGR.
        owner: uint8 (size, size); the number of the collision seen at a pixel, 0 for none.
        lights: light sources; their glow is added when the frame is finished.
    """

    image: Image
    owner: Mask
    lights: list[Light] = field(default_factory=list)

    @classmethod
    def on(cls, image: Image) -> "Canvas":
        """A canvas that paints into this image and shows no collision yet."""
        return cls(image, np.zeros(image.shape[:2], np.uint8))

    @property
    def scale(self) -> float:
        """Pixels here for one pixel of a frame of the reference side."""
        return self.image.shape[0] / REFERENCE_SIDE

    def fill(self, polygon: Floats, colour: Colour, owner: int = 0) -> None:
        """Fill a convex polygon (n, 2), pixels, smooth at the edges.

        The pixels below it get `owner`, whatever they had.
        """
        points = fixed(polygon)
        shade = tuple(float(c) for c in colour)
        cv2.fillConvexPoly(self.image, points, shade, cv2.LINE_AA, SUBPIXEL)
        cv2.fillConvexPoly(self.owner, points, owner, cv2.LINE_8, SUBPIXEL)

    def own(self, points: Floats, owner: int) -> None:
        """Give what lies in the convex hull of the points (n, 2), pixels, to a collision."""
        cv2.fillConvexPoly(self.owner, fixed(convex(points)), owner, cv2.LINE_8, SUBPIXEL)

    def shade(self, mask: Mask, strength: float) -> None:
        """Darken by the share `strength` where the mask is 255, by less where it is lower."""
        x, y, w, h = cv2.boundingRect(mask)
        if not w:
            return
        part = self.image[y : y + h, x : x + w]
        remaining = cv2.convertScaleAbs(mask[y : y + h, x : x + w], alpha=-strength, beta=255)
        part[:] = cv2.multiply(part, all_channels(remaining), scale=1 / 255)


def fixed(polygon: Floats) -> NDArray[np.int32]:
    """Pixels in the fixed-point form that OpenCV draws with sub-pixel accuracy.

    Pixel i covers [i, i + 1) here, while OpenCV puts its centre at i: hence the half pixel. Points
    far outside the frame are held at -4000 and 8000.
    """
    held = np.minimum(np.maximum(polygon, -4000), 8000)
    return np.rint((held - 0.5) * (1 << SUBPIXEL)).astype(np.int32)


def convex(points: Floats) -> NDArray[np.float32]:
    """The corners (m, 2) of the convex hull of points (n, 2)."""
    # OpenCV takes no double precision, and returns (m, 1, 2).
    return cv2.convexHull(np.asarray(points, np.float32))[:, 0]


def all_channels(grey: NDArray[np.generic]) -> NDArray[np.generic]:
    """(height, width) repeated for the three colours: (height, width, 3)."""
    return cv2.merge([grey, grey, grey])


def blend(below: Image, above: Image, alpha: Mask) -> Image:
    """`above` over `below`, by `alpha`: 0 shows `below`, 255 shows `above`."""
    share = all_channels(alpha)
    kept = cv2.multiply(below, cv2.bitwise_not(share), scale=1 / 255)
    added = cv2.multiply(above, share, scale=1 / 255)
    return np.asarray(cv2.add(kept, added), np.uint8)


@lru_cache(maxsize=4)
def noise_tile(smooth: int) -> NDArray[np.float32]:
    """A fixed tile of noise (NOISE_SIDE, NOISE_SIDE), with mean 0; grains are `smooth` pixels wide.

    Made once; frames take random parts of it, which is cheaper than fresh noise for each.
    """
    rng = np.random.default_rng(smooth)
    side = NOISE_SIDE // smooth + 2  # + 2: the division may leave a remainder
    tile = rng.standard_normal((side, side), dtype=np.float32)
    if smooth > 1:
        tile = cv2.resize(tile, None, fx=smooth, fy=smooth, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(tile[:NOISE_SIDE, :NOISE_SIDE])


def noise(rng: np.random.Generator, side: int, smooth: int = 1) -> NDArray[np.float32]:
    """Noise (side, side) with mean 0 and about unit variance: a random part of the fixed tile."""
    x, y = rng.integers(0, NOISE_SIDE - side, 2)
    return noise_tile(smooth)[y : y + side, x : x + side]
