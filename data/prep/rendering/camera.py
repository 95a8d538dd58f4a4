"""A fixed road camera, and the canvas that it exposes."""

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
SUBPIXEL = 4
"""Fractional bits of the coordinates given to OpenCV."""


@dataclass(frozen=True)
class Camera:
    """A pinhole at (0, 0, height), looking along +y and `pitch` radians down.

    Attributes:
        size: side of the square frame, pixels.
        focal: focal length, pixels of this frame.
    """

    size: int
    height: float
    pitch: float
    focal: float

    @property
    def position(self) -> Floats:
        return np.array([0.0, 0.0, self.height])

    @property
    def focus(self) -> Floats:
        """The ground point in the middle of the frame, (x, y)."""
        return np.array([0.0, self.height / np.tan(self.pitch)])

    @property
    def horizon(self) -> float:
        """The row of the horizon; negative when it is above the frame."""
        return self.size / 2 - self.focal * np.tan(self.pitch)

    def depth(self, points: Floats) -> Floats:
        """Distance along the view axis of points (..., 3), metres."""
        return points[..., 1] * np.cos(self.pitch) - (points[..., 2] - self.height) * np.sin(
            self.pitch
        )

    def project(self, points: Floats) -> Floats:
        """Pixels (..., 2) of points (..., 3); points at or behind the camera are held in front."""
        depth = np.maximum(self.depth(points), 0.5)
        rise = points[..., 1] * np.sin(self.pitch) + (points[..., 2] - self.height) * np.cos(
            self.pitch
        )
        x = self.size / 2 + self.focal * points[..., 0] / depth
        y = self.size / 2 - self.focal * rise / depth
        return np.stack([x, y], axis=-1)

    def ground(self, points: Floats) -> Floats:
        """Pixels (..., 2) of ground points (..., 2)."""
        return self.project(np.concatenate([points, np.zeros_like(points[..., :1])], axis=-1))

    def homography(self) -> Floats:
        """3 x 3, from ground metres to pixels."""
        c, f = self.size / 2, self.focal
        sin, cos = np.sin(self.pitch), np.cos(self.pitch)
        depth = np.array([0, cos, self.height * sin])
        rise = np.array([0, sin, -self.height * cos])
        return np.stack([c * depth + [f, 0, 0], c * depth - f * rise, depth])


@dataclass
class Canvas:
    """The picture being painted, and who owns each pixel.

    Attributes:
        image: uint8 (size, size, 3), BGR.
        owner: uint8 (size, size); 0 where no collision is seen, else the collision's number.
        lamps: (x, y, radius, BGR) of what shines, in pixels.
    """

    image: NDArray[np.uint8]
    owner: NDArray[np.uint8]
    lamps: list[tuple[float, float, float, tuple[float, float, float]]] = field(
        default_factory=list
    )

    @property
    def scale(self) -> float:
        """Pixels here for one pixel of a 640-pixel frame."""
        return self.image.shape[0] / 640

    def fill(self, polygon: Floats, colour: Floats | tuple[float, ...], owner: int = 0) -> None:
        """Fill a convex polygon (n, 2), pixels, smooth at the edges."""
        points = fixed(polygon)
        shade = tuple(float(c) for c in colour)
        cv2.fillConvexPoly(self.image, points, shade, cv2.LINE_AA, SUBPIXEL)
        cv2.fillConvexPoly(self.owner, points, owner, cv2.LINE_8, SUBPIXEL)

    def own(self, points: Floats, owner: int) -> None:
        """Give what lies in the convex hull of the points (n, 2), pixels, to a collision."""
        hull = cv2.convexHull(np.asarray(points, np.float32))[:, 0]
        cv2.fillConvexPoly(self.owner, fixed(hull), owner, cv2.LINE_8, SUBPIXEL)

    def shade(self, mask: NDArray[np.uint8], strength: float) -> None:
        """Darken where the mask (255 = full) lies."""
        x, y, w, h = cv2.boundingRect(mask)
        if not w:
            return
        part = self.image[y : y + h, x : x + w]
        factor = cv2.convertScaleAbs(mask[y : y + h, x : x + w], alpha=-strength, beta=255)
        part[:] = cv2.multiply(part, cv2.merge([factor] * 3), scale=1 / 255)


def fixed(polygon: Floats) -> NDArray[np.int32]:
    """Pixels in the fixed-point form that OpenCV draws with sub-pixel accuracy.

    Pixel i covers [i, i + 1) here, while OpenCV puts its centre at i.
    """
    inside = np.minimum(np.maximum(polygon, -4000), 8000)
    return np.rint((inside - 0.5) * (1 << SUBPIXEL)).astype(np.int32)


@lru_cache(maxsize=4)
def noise_tile(smooth: int) -> NDArray[np.float32]:
    """A fixed 2048 x 2048 tile of unit noise whose grains are `smooth` pixels wide."""
    rng = np.random.default_rng(smooth)
    side = 2048 // smooth + 2
    tile = rng.standard_normal((side, side), dtype=np.float32)
    if smooth > 1:
        tile = cv2.resize(tile, None, fx=smooth, fy=smooth, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(tile[:2048, :2048])


def noise(rng: np.random.Generator, side: int, smooth: int = 1) -> NDArray[np.float32]:
    """Unit noise, (side, side): a random cut of the fixed tile."""
    x, y = rng.integers(0, 2048 - side, 2)
    return noise_tile(smooth)[y : y + side, x : x + side]
