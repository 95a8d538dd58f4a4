"""A fixed road camera: where a point of the ground lies in its picture.

Three systems of coordinates meet in this room:

- ground: metres from the point below the camera; x to the right, y away from the camera, z up;
- vehicle: metres from the ground below its middle; x to its right, y ahead, z up;
- picture: pixels from the upper left corner; x to the right, y down. Pixel i covers [i, i + 1).

Angles are radians. A heading or yaw counts from +y towards +x: 0 drives away from the camera.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

REFERENCE_SIDE = 640
"""Lengths in pixels are stated for a frame of this side, and scaled to the frame's."""

NEAREST = 0.5
"""Metres. Points nearer to the camera, or behind it, are projected from this distance."""


@dataclass(frozen=True)
class Camera:
    """A pinhole at (0, 0, height), looking along +y and `pitch` radians down.

    Attributes:
        size: side of the square frame, pixels.
        height: above the ground, metres.
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
        """Distance along the view axis of points (..., 3), metres; negative behind the camera."""
        away = points[..., 1]
        above = points[..., 2] - self.height
        return away * np.cos(self.pitch) - above * np.sin(self.pitch)

    def depth_on_ground(self, point: Floats | tuple[float, float]) -> float:
        """Distance along the view axis of one ground point (x, y), metres."""
        return float(self.depth(np.array([point[0], point[1], 0.0])))

    def project(self, points: Floats) -> Floats:
        """Pixels (..., 2) of points (..., 3).

        Points at or behind the camera get the depth `NEAREST`: a negative depth would mirror them
        into the picture.
        """
        depth = np.maximum(self.depth(points), NEAREST)
        away = points[..., 1]
        above = points[..., 2] - self.height
        rise = away * np.sin(self.pitch) + above * np.cos(self.pitch)
        x = self.size / 2 + self.focal * points[..., 0] / depth
        y = self.size / 2 - self.focal * rise / depth
        return np.stack([x, y], axis=-1)

    def project_ground(self, points: Floats) -> Floats:
        """Pixels (..., 2) of ground points (..., 2)."""
        zeros = np.zeros_like(points[..., :1])
        return self.project(np.concatenate([points, zeros], axis=-1))

    def homography(self) -> Floats:
        """3 x 3, from the ground (x, y, 1) in metres to (x, y, 1) in pixels, up to a factor.

        The same mapping as `project_ground`: the factor is the depth, which is linear in x and y.
        """
        centre = self.size / 2
        sin, cos = np.sin(self.pitch), np.cos(self.pitch)
        depth = np.array([0, cos, self.height * sin])
        rise = np.array([0, sin, -self.height * cos])
        row_x = centre * depth + [self.focal, 0, 0]
        row_y = centre * depth - self.focal * rise
        return np.stack([row_x, row_y, depth])


def heading(step: Floats) -> float:
    """The heading of a step (x, y) on the ground."""
    return float(np.arctan2(step[0], step[1]))


def direction(yaw: float) -> Floats:
    """The unit step (x, y) on the ground of a heading."""
    return np.array([np.sin(yaw), np.cos(yaw)])
