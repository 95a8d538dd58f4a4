"""A place with its camera: the view without traffic."""

from dataclasses import dataclass

import cv2
import numpy as np

from dat_runtime.draw import Image
from data.prep.rendering.camera import REFERENCE_SIDE, Camera
from data.prep.rendering.canvas import Canvas, Light, Mask
from data.prep.rendering.ground import Layout, layout, texture_homography
from data.prep.rendering.roads import POINTS_PER_METRE, Road
from data.prep.rendering.surroundings import surroundings
from data.prep.rendering.weather import Conditions, conditions


@dataclass(frozen=True)
class Place:
    """One fixed camera's view without traffic.

    Attributes:
        background: uint8 (size, size, 3), BGR. paved: uint8 (size, size), 255 where the road is.
        street_lamps: the pools of light below them; none by day.
    """

    camera: Camera
    layout: Layout
    weather: Conditions
    background: Image
    paved: Mask
    street_lamps: tuple[Light, ...]


def place(rng: np.random.Generator, size: int) -> Place:
    """A place drawn at random, seen by a square frame of `size` pixels."""
    camera = _camera(rng, size)
    weather = conditions(rng)
    ground = layout(rng, camera, weather.snow > 0)

    # Texture and picture both show the ground, so a homography takes one to the other.
    to_picture = texture_homography(camera)
    paved = cv2.warpPerspective(ground.paved, to_picture, (size, size), flags=cv2.INTER_LINEAR)
    # Beyond the texture the ground goes on in the colour of its far end.
    far_colour = [float(value) for value in np.median(ground.texture[:40], axis=(0, 1))]
    image = cv2.warpPerspective(
        ground.texture, to_picture, (size, size), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=far_colour,
    )  # fmt: skip

    canvas = Canvas.on(image)
    _sky(canvas, camera, rng, weather, paved)
    surroundings(canvas, camera, rng, weather, paved)
    street_lamps: tuple[Light, ...] = ()
    if weather.night:
        street_lamps = _street_lamps(camera, rng, ground.roads[0])
    return Place(camera, ground, weather, image, paved, street_lamps)


def _camera(rng: np.random.Generator, size: int) -> Camera:
    """A camera beside or above the road; one in five looks down steeply."""
    from_the_top = rng.random() < 0.2
    if from_the_top:
        distance = rng.uniform(17, 24)
        pitch = rng.uniform(0.85, 1.25)
    else:
        distance = rng.uniform(15, 24)
        pitch = rng.uniform(0.3, 0.75)
    focal = rng.uniform(560, 820) * size / REFERENCE_SIDE
    # `distance` is from the camera to the ground point in the middle of the frame.
    return Camera(size, distance * np.sin(pitch), pitch, focal)


def _sky(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, weather: Conditions, paved: Mask
) -> None:
    """Sky down to the horizon, if that is in the frame, and a skyline on it.

    Above the horizon there is no ground: `paved` is cleared there.
    """
    rows = round(camera.horizon)
    if rows <= 0:
        return
    bottom, top = np.array([225, 222, 215]), np.array([205, 200, 195])
    if weather.sunny:
        top = np.array([225, 190, 150])  # BGR: blue
    share = np.linspace(0, 1, rows)[:, None, None]
    canvas.image[:rows] = (top * (1 - share) + bottom * share).astype(np.uint8)
    paved[: rows + 2] = 0

    x = 0.0
    while x < camera.size:
        width = rng.uniform(20, 90) * canvas.scale
        height = rng.uniform(6, 60) * canvas.scale
        colour = rng.uniform(90, 170) + rng.uniform(-15, 15, 3)
        foot, roof = rows + 3, rows - height  # 3 rows below the horizon: no gap to the ground
        corners = [[x, foot], [x, roof], [x + width, roof], [x + width, foot]]
        canvas.fill(np.array(corners), colour)
        x += width * rng.uniform(0.6, 1.3)


def _street_lamps(camera: Camera, rng: np.random.Generator, road: Road) -> tuple[Light, ...]:
    """Pools of light beside a road, each with a radius of 4.5 m."""
    lamp = (170.0, 170.0, 165.0)  # white
    if rng.random() < 0.6:
        lamp = (120.0, 165.0, 190.0)  # BGR: yellowish
    blue, green, red = (0.6 * channel for channel in lamp)
    roadside = road.offset(road.width / 2 + 1)
    spacing = int(rng.integers(20 * POINTS_PER_METRE, 35 * POINTS_PER_METRE))
    pools = []
    for point in roadside[::spacing]:
        depth = camera.depth_on_ground(point)
        if 5 < depth < 80:
            x, y = camera.project_ground(point)
            radius = 4.5 * camera.focal / depth
            pools.append(Light(float(x), float(y), radius, (blue, green, red), True))
    return tuple(pools)
