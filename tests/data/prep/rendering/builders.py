"""A camera and an empty canvas, on which tests paint."""

import numpy as np

from data.prep.rendering.camera import Camera
from data.prep.rendering.canvas import Canvas

SUN = np.array([0.0, 0.0, 1.0])
"""From straight above."""


def a_camera(size: int = 320) -> Camera:
    return Camera(size, height=9.0, pitch=0.5, focal=320.0)


def an_empty(camera: Camera) -> Canvas:
    ground = np.full((camera.size, camera.size, 3), 100, np.uint8)
    return Canvas.on(ground)
