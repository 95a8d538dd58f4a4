"""Vehicles in the picture: their quads, their shadows, and the pools of their headlights."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from data.prep.rendering.camera import Camera, Floats, direction
from data.prep.rendering.canvas import SUBPIXEL, Canvas, Light, convex, fixed
from data.prep.rendering.vehicles import (
    BODY,
    DISC,
    FRONT,
    HEADLAMP,
    INDICATOR,
    REAR,
    REAR_LAMP,
    WHEEL,
    Vehicle,
)
from data.prep.rendering.weather import Conditions

CLOSEST = 1.0
"""Metres. A vehicle with a nearer corner is left out: the projection would tear its quads."""

LAMP_COLOURS = {
    HEADLAMP: (190.0, 235.0, 255.0),
    REAR_LAMP: (30.0, 30.0, 255.0),
    INDICATOR: (20.0, 150.0, 255.0),
}
"""BGR: white, red and orange."""
GLOW_SIZES = {HEADLAMP: 2.2, REAR_LAMP: 1.2, INDICATOR: 3.5}
"""Radius of a lamp's glow, as a multiple of the lamp's longer side."""


def paint_all(
    canvas: Canvas,
    camera: Camera,
    weather: Conditions,
    vehicles: Sequence[Vehicle],
    owners: Sequence[int],
) -> None:
    """Paint vehicles from far to near, so that near ones hide far ones."""
    if not vehicles:
        return
    middles = np.array([np.append(vehicle.position, 0.6) for vehicle in vehicles])
    for i in np.argsort(-camera.depth(middles), kind="stable"):
        paint(canvas, camera, vehicles[i], weather.sun, owners[i])
        if HEADLAMP in vehicles[i].lit:
            _beam(canvas, camera, vehicles[i])


def paint(canvas: Canvas, camera: Camera, vehicle: Vehicle, sun: Floats, owner: int = 0) -> None:
    """Paint a vehicle over the picture; its pixels get `owner`."""
    quads = vehicle.placed()
    if camera.depth(quads).min() < CLOSEST:
        return
    pixels = camera.project(quads)
    low, high = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    if (high < 0).any() or (low > camera.size).any():
        return

    # A quad's normal is the cross product of its diagonals; one crushed to a line has length 0.
    normals = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    middles = quads.mean(axis=1)
    facing = ((camera.position - middles) * normals).sum(axis=1) > 0
    # Light from all around, and more from the sun, by Lambert's cosine.
    light = 0.62 + 0.38 * np.clip(normals @ sun, -0.4, 1)
    shown = np.clip(vehicle.colours * light[:, None], 0, 255).tolist()
    points = fixed(pixels)

    # A group of an undamaged vehicle is about convex: quads that face the camera do not hide one
    # another. Dented sheet metal may show its back and hide other parts: all of it is painted, from
    # far to near.
    farness = camera.depth(middles)
    dented = vehicle.crushed & ~np.isin(vehicle.groups, (WHEEL, DISC))
    for group in _back_to_front(camera, vehicle):
        chosen = np.flatnonzero((vehicle.groups == group) & (facing | dented))
        if vehicle.crushed:
            chosen = chosen[np.argsort(-farness[chosen], kind="stable")]
        for i in chosen:
            cv2.fillConvexPoly(canvas.image, points[i], shown[i], cv2.LINE_AA, SUBPIXEL)
    canvas.own(pixels.reshape(-1, 2), owner)
    _shine(canvas, vehicle, pixels, facing)


def _back_to_front(camera: Camera, vehicle: Vehicle) -> list[int]:
    """The groups of quads in the order of painting: the furthest from the camera comes first."""
    # The camera's position in the vehicle's axes. `placed` raises a vehicle by `lift`.
    rotation = vehicle.rotation()
    lift = -(vehicle.quads @ rotation.T)[..., 2].min()
    origin = np.append(vehicle.position, lift)
    eye = rotation.T @ (camera.position - origin)
    upper = [FRONT, REAR]
    if eye[1] > vehicle.split:  # it looks at the front
        upper = [REAR, FRONT]
    if eye[2] < 0.3:  # it looks at the underside: the wheels are in front of everything
        return [*upper, BODY, WHEEL]
    return [WHEEL, BODY, DISC, *upper]


def _shine(canvas: Canvas, vehicle: Vehicle, pixels: Floats, facing: NDArray[np.bool_]) -> None:
    """Paint lit lamps bright, and add them to the light sources that glow."""
    for lamp in vehicle.lit:
        colour = LAMP_COLOURS[lamp]
        for i in np.flatnonzero((vehicle.lamps == lamp) & facing):
            cv2.fillConvexPoly(canvas.image, fixed(pixels[i]), colour, cv2.LINE_AA, SUBPIXEL)
            x, y = pixels[i].mean(axis=0)
            longer_side = float(np.ptp(pixels[i], axis=0).max())
            canvas.lights.append(Light(float(x), float(y), longer_side * GLOW_SIZES[lamp], colour))


def _beam(canvas: Canvas, camera: Camera, vehicle: Vehicle) -> None:
    """Add the pools of light that the headlamps throw on the ground ahead."""
    for metres_ahead, radius in ((2.5, 1.3), (5.0, 1.8)):
        ahead = direction(vehicle.yaw) * (vehicle.length / 2 + metres_ahead)
        pool = vehicle.position + ahead
        depth = camera.depth_on_ground(pool)
        if depth > 3:
            x, y = camera.project_ground(pool)
            pixels = radius * camera.focal / depth
            canvas.lights.append(Light(float(x), float(y), pixels, (110.0, 135.0, 140.0), True))


def shadows(
    canvas: Canvas, camera: Camera, weather: Conditions, vehicles: Sequence[Vehicle]
) -> None:
    """Darken the ground where vehicles cast shadows. Call this before they are painted.

    In the sun a shadow falls to one side and has an edge. Under clouds and at night it is a blurred
    patch below and around the vehicle.
    """
    mask = np.zeros(canvas.owner.shape, np.uint8)
    for vehicle in vehicles:
        corners = vehicle.placed().reshape(-1, 3)
        if camera.depth(corners).min() < CLOSEST:
            continue
        if weather.sunny:
            # The shadow of a point at height z lies z times the cotangent of the sun's elevation
            # away. The bound of 0.3 on the sine limits the shadows of a low sun.
            slide = -weather.sun[:2] / max(weather.sun[2], 0.3)
            feet = corners[:, :2] + corners[:, 2:] * slide
        else:
            feet = corners[:, :2]
            feet = feet + (feet - vehicle.position) * 0.08
        hull = convex(camera.project_ground(feet))
        cv2.fillConvexPoly(mask, fixed(hull), 255, cv2.LINE_8, SUBPIXEL)
    if weather.sunny:
        canvas.shade(cv2.blur(mask, (3, 3)), weather.shadow)
    else:
        canvas.shade(cv2.blur(mask, (9, 9)), 0.45)
