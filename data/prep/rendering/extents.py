"""Boxes of collisions: from their geometry before painting, from their pixels after it."""

import cv2
import numpy as np

from dat_runtime.types import Box, Size
from data.prep.rendering.camera import Camera
from data.prep.rendering.canvas import Mask
from data.prep.rendering.collisions import Collision
from data.prep.rendering.vehicles import Vehicle


def extent(camera: Camera, collision: Collision) -> Box:
    """The box of a collision from its geometry alone, clipped to the frame.

    It holds the vehicles and the debris near them.
    """
    points = [vehicle.placed().reshape(-1, 3) for vehicle in collision.vehicles]
    debris = collision.debris
    points.append(debris.corners[debris.near].reshape(-1, 3))
    pixels = camera.project(np.concatenate(points))
    x1, y1 = pixels.min(axis=0)
    x2, y2 = pixels.max(axis=0)
    return Box(x1, y1, x2, y2, Size(camera.size, camera.size)).clipped()


def unclipped_area(camera: Camera, collision: Collision) -> float:
    """The area of the vehicles' box in square pixels, including the part outside the frame."""
    points = [vehicle.placed().reshape(-1, 3) for vehicle in collision.vehicles]
    pixels = np.concatenate([camera.project(part) for part in points])
    return float(np.prod(np.ptp(pixels, axis=0)))


def visible(owner: Mask, number: int) -> Box | None:
    """The bounds of the visible pixels of a collision; None if it has none."""
    x, y, width, height = cv2.boundingRect((owner == number).astype(np.uint8))
    if not width:
        return None
    return Box(x, y, x + width, y + height, Size(owner.shape[1], owner.shape[0]))


def longer_side(box: Box) -> float:
    """The longer side of a box as a share of the frame's side."""
    return max(box.x2 - box.x1, box.y2 - box.y1) / box.frame.width


def with_margin(box: Box) -> Box:
    """The box with a margin on each side: a twentieth of its width or height."""
    dx, dy = 0.05 * (box.x2 - box.x1), 0.05 * (box.y2 - box.y1)
    return Box(box.x1 - dx, box.y1 - dy, box.x2 + dx, box.y2 + dy, box.frame)


def hides(camera: Camera, vehicle: Vehicle, collision: Collision, box: Box) -> bool:
    """Whether a vehicle nearer to the camera covers more than a tenth of a collision's box."""
    if camera.depth_on_ground(vehicle.position) >= camera.depth_on_ground(collision.middle):
        return False
    pixels = camera.project(vehicle.placed())
    x1, y1 = pixels.min(axis=(0, 1))
    x2, y2 = pixels.max(axis=(0, 1))
    width = min(x2, box.x2) - max(x1, box.x1)
    height = min(y2, box.y2) - max(y1, box.y1)
    return bool(width > 0 and height > 0 and width * height > 0.1 * box.area)
