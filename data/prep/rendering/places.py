"""A place with its camera: ground, sky, buildings, vegetation; and what hides the road from it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.prep.rendering.camera import Camera, Canvas, Floats
from data.prep.rendering.roads import Layout, layout, texture_homography
from data.prep.rendering.weather import Conditions, conditions


@dataclass(frozen=True)
class Place:
    """One fixed camera's view without traffic.

    Attributes:
        background: uint8 (size, size, 3), BGR. paved: uint8 (size, size), 255 where the road is.
        street_lamps: (x, y, radius, BGR) in pixels, lit at night.
    """

    camera: Camera
    layout: Layout
    weather: Conditions
    background: NDArray[np.uint8]
    paved: NDArray[np.uint8]
    street_lamps: tuple[tuple[float, float, float, tuple[float, float, float]], ...]


def place(rng: np.random.Generator, size: int) -> Place:
    """A place drawn at random, seen by a square frame of `size` pixels."""
    camera = _camera(rng, size)
    weather = conditions(rng)
    ground = layout(rng, camera, weather.snow > 0)
    onto = texture_homography(camera)
    paved = cv2.warpPerspective(ground.paved, onto, (size, size), flags=cv2.INTER_LINEAR)
    edge = [float(v) for v in np.median(ground.texture[:40], axis=(0, 1))]
    image = cv2.warpPerspective(
        ground.texture, onto, (size, size), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=edge,
    )  # fmt: skip
    canvas = Canvas(image, np.zeros((size, size), np.uint8))
    _sky(canvas, camera, rng, weather, paved)
    _surroundings(canvas, camera, rng, weather, paved)
    lamps = _street_lamps(canvas, camera, rng, ground) if weather.night else ()
    return Place(camera, ground, weather, image, paved, lamps)


def _camera(rng: np.random.Generator, size: int) -> Camera:
    """Mostly beside or above the road, one in five nearly from the top."""
    top = rng.random() < 0.2
    distance = rng.uniform(17, 24) if top else rng.uniform(15, 24)
    pitch = rng.uniform(0.85, 1.25) if top else rng.uniform(0.3, 0.75)
    focal = rng.uniform(560, 820) * size / 640
    return Camera(size, distance * np.sin(pitch), pitch, focal)


def _sky(
    canvas: Canvas,
    camera: Camera,
    rng: np.random.Generator,
    weather: Conditions,
    paved: NDArray[np.uint8],
) -> None:
    rows = round(camera.horizon)
    if rows <= 0:
        return
    top = np.array([225, 190, 150]) if weather.shadow > 0.35 else np.array([205, 200, 195])
    low = np.array([225, 222, 215])
    share = np.linspace(0, 1, rows)[:, None, None]
    canvas.image[:rows] = (top * (1 - share) + low * share).astype(np.uint8)
    paved[: rows + 2] = 0
    unit, x = canvas.scale, 0.0
    while x < camera.size:
        wide, tall = rng.uniform(20, 90) * unit, rng.uniform(6, 60) * unit
        colour = rng.uniform(90, 170) + rng.uniform(-15, 15, 3)
        corners = [[x, rows + 3], [x, rows - tall], [x + wide, rows - tall], [x + wide, rows + 3]]
        canvas.fill(np.array(corners), colour)
        x += wide * rng.uniform(0.6, 1.3)


def _surroundings(
    canvas: Canvas,
    camera: Camera,
    rng: np.random.Generator,
    weather: Conditions,
    paved: NDArray[np.uint8],
) -> None:
    """Buildings, trees and bushes that do not stand before the road, from far to near."""
    spots = rng.uniform([-45, 8], [45, 95], (36, 2))
    town = rng.random()
    near = camera.focus[1] * 0.4
    for x, y in spots[np.argsort(-spots[:, 1])]:
        if y < near or not 0 < camera.ground(np.array([x, y]))[0] < camera.size:
            continue
        if rng.random() < town * 0.5:
            _building(canvas, camera, rng, np.array([x, y]), paved)
        else:
            _tree(canvas, camera, rng, np.array([x, y]), paved, weather)


def _building(
    canvas: Canvas,
    camera: Camera,
    rng: np.random.Generator,
    at: Floats,
    paved: NDArray[np.uint8],
) -> None:
    wide, deep, tall = rng.uniform(6, 14), rng.uniform(6, 12), rng.uniform(4, 16)
    x0, x1, y0, y1 = at[0] - wide / 2, at[0] + wide / 2, at[1], at[1] + deep
    side = x0 if at[0] > 0 else x1
    front = np.array([[x0, y0, 0], [x1, y0, 0], [x1, y0, tall], [x0, y0, tall]])
    flank = np.array([[side, y0, 0], [side, y1, 0], [side, y1, tall], [side, y0, tall]])
    roof = np.array([[x0, y0, tall], [x1, y0, tall], [x1, y1, tall], [x0, y1, tall]])
    faces = [flank, front] + ([roof] if camera.height > tall else [])
    outline = cv2.convexHull(camera.project(np.concatenate(faces)).astype(np.float32))[:, 0]
    if _covers(outline, paved) or camera.depth(front).min() < 3:
        return
    base = rng.uniform(80, 190) + rng.uniform(-14, 14, 3)
    pane = base * rng.uniform(0.35, 0.7)
    for face, shade in zip(faces, (0.75, 1.0, 0.85), strict=False):
        canvas.fill(camera.project(face), np.clip(base * shade, 0, 255))
    for face in faces[:2]:
        for u in np.arange(0.08, 0.9, 0.22):
            for z in np.arange(1.2, tall - 1.6, 3.0):
                a, b = face[0] * (1 - u) + face[1] * u, face[0] * (0.88 - u) + face[1] * (u + 0.12)
                quad = np.stack([a, b, b, a])
                quad[:, 2] = [z, z, z + 1.5, z + 1.5]
                canvas.fill(camera.project(quad), pane)


def _tree(
    canvas: Canvas,
    camera: Camera,
    rng: np.random.Generator,
    at: Floats,
    paved: NDArray[np.uint8],
    weather: Conditions,
) -> None:
    bush = rng.random() < 0.5
    tall, radius = (
        (rng.uniform(0.6, 1.6), rng.uniform(0.7, 2))
        if bush
        else (rng.uniform(3, 7), rng.uniform(1.5, 3))
    )
    crown = np.array([*at, tall if not bush else tall * 0.6])
    unit = camera.focal / camera.depth(crown)
    middle, foot = camera.project(crown), camera.ground(at)
    reach = radius * unit
    outline = middle + reach * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    if _covers(np.concatenate([outline, foot[None]]), paved):
        return
    if not bush:
        trunk = np.array([max(1.0, 0.18 * unit), 0.0])
        canvas.fill(
            np.array([foot - trunk, foot + trunk, middle + trunk, middle - trunk]), (50, 65, 80)
        )
    leaves(canvas, rng, middle, reach, _green(rng, weather), 14)


def _green(rng: np.random.Generator, weather: Conditions) -> Floats:
    if weather.snow and rng.random() < 0.6:
        return rng.uniform(150, 215) + rng.uniform(-6, 6, 3)
    return np.array([45, 90, 60]) * rng.uniform(0.6, 1.3) + rng.uniform(-12, 12, 3)


def leaves(
    canvas: Canvas,
    rng: np.random.Generator,
    middle: Floats,
    reach: float,
    colour: Floats,
    clumps: int,
) -> None:
    """A crown of overlapping clumps, lighter at the top; what lies below is hidden."""
    spots = rng.normal(0, 0.45, (clumps, 2)).clip(-0.8, 0.8)
    for dx, dy in spots[np.argsort(-spots[:, 1])]:
        centre = (int(middle[0] + dx * reach), int(middle[1] + dy * reach))
        radius = max(1, int(reach * rng.uniform(0.25, 0.42)))
        shade = np.clip(colour * (0.95 - 0.45 * dy + rng.uniform(-0.12, 0.12)), 0, 255)
        cv2.circle(canvas.image, centre, radius, tuple(float(c) for c in shade), -1, cv2.LINE_AA)
        cv2.circle(canvas.owner, centre, radius, 0, -1)


def _covers(outline: Floats, paved: NDArray[np.uint8]) -> bool:
    """Whether an outline (n, 2) touches the road in the picture."""
    low = np.clip(outline.min(axis=0), 0, len(paved)).astype(int)
    high = np.clip(outline.max(axis=0) + 1, 0, len(paved)).astype(int)
    return bool(paved[low[1] : high[1], low[0] : high[0]].any())


def _street_lamps(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, ground: Layout
) -> tuple[tuple[float, float, float, tuple[float, float, float]], ...]:
    """Pools of light along the first road."""
    colour = (120.0, 165.0, 190.0) if rng.random() < 0.6 else (170.0, 170.0, 165.0)
    line = ground.roads[0].offset(ground.roads[0].width / 2 + 1)[:: int(rng.integers(40, 70))]
    pools = []
    for point in line:
        here = np.array([*point, 0.0])
        depth = float(camera.depth(here))
        if 5 < depth < 80:
            x, y = camera.project(here)
            pools.append(
                (float(x), float(y), 4.5 * camera.focal / depth, tuple(0.6 * c for c in colour))
            )
    return tuple(pools)


def occlude(canvas: Canvas, rng: np.random.Generator, weather: Conditions) -> None:
    """Something near the camera hides a part of the frame: branches, a pole, or a sign."""
    side = canvas.image.shape[0]
    kind = rng.choice(["branches", "pole", "sign"])
    if kind == "branches":
        corner = np.array([rng.choice([0.0, 1.0]) * side, rng.uniform(-0.05, 0.5) * side])
        for _ in range(3):
            at = corner + rng.normal(0, 0.07, 2) * side
            leaves(canvas, rng, at, rng.uniform(0.06, 0.15) * side, _green(rng, weather), 22)
        return
    x, wide = rng.uniform(0.05, 0.95) * side, rng.uniform(0.01, 0.03) * side
    grey = rng.uniform(70, 150) + rng.uniform(-8, 8, 3)
    foot = rng.uniform(0.75, 1.1) * side
    pole = [[x, -2], [x + wide, -2], [x + wide * 1.15, foot], [x - wide * 0.15, foot]]
    canvas.fill(np.array(pole), grey)
    if kind == "sign":
        top, tall, half = rng.uniform(0.05, 0.3) * side, 0.1 * side, rng.uniform(0.05, 0.09) * side
        board = [[x - half, top], [x + half, top], [x + half, top + tall], [x - half, top + tall]]
        colour = [(150, 80, 20), (60, 120, 30), (210, 210, 210), (40, 40, 190)][rng.integers(4)]
        canvas.fill(np.array(board), colour)
        inner = np.array(board) * 0.9 + np.mean(board, axis=0) * 0.1
        cv2.polylines(canvas.image, [inner.astype(np.int32)], True, (235, 235, 235), 1, cv2.LINE_AA)


def stamp(canvas: Canvas, rng: np.random.Generator) -> None:
    """The recorder's text in a corner."""
    unit = canvas.scale
    values = rng.integers([1, 1, 1, 0, 0, 0], [100, 13, 29, 24, 60, 60])
    text = "CAM{:02d} 2024-{:02d}-{:02d} {:02d}:{:02d}:{:02d}".format(*values)
    at = (int(10 * unit), int((24 if rng.random() < 0.5 else 628) * unit))
    for colour, thick in ((20, 20, 20), 3), ((235, 235, 235), 1):
        font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.55 * unit
        cv2.putText(canvas.image, text, at, font, size, colour, thick, cv2.LINE_AA)
