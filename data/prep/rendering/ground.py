"""The ground as seen from straight above: roads and what lies beside them, drawn as a texture.

A camera's picture of it is one homography of the texture (`texture_homography`).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dat_runtime.draw import Image
from data.prep.rendering.camera import Camera, Floats
from data.prep.rendering.canvas import SUBPIXEL, Colour, Mask, all_channels, noise
from data.prep.rendering.roads import POINTS_PER_METRE, SHARES, Road, random_roads

REACH = 45.0
"""The texture covers x in [-REACH, REACH], y in [0, 2 REACH], metres."""

PER_METRE = 9
"""Pixels of the texture for one metre of ground."""

SIDE = int(2 * REACH * PER_METRE)
"""Side of the texture, pixels."""

EVERY_TWO_METRES = 2 * POINTS_PER_METRE
"""A step in points of a line: fine enough to draw wide lines and to measure distances to roads."""


@dataclass(frozen=True)
class Layout:
    """The roads of one place, and the ground drawn from straight above.

    Attributes:
        texture: uint8 (SIDE, SIDE, 3), BGR; rows from far to near.
        paved: uint8 (SIDE, SIDE), 255 where vehicles drive.
    """

    kind: str
    roads: tuple[Road, ...]
    texture: Image
    paved: Mask

    def lanes(self) -> list[Floats]:
        lanes = []
        for road in self.roads:
            lanes += road.lanes()
        return lanes


def layout(rng: np.random.Generator, camera: Camera, snowy: bool) -> Layout:
    """Roads through the middle of the camera's view, drawn with their surroundings."""
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    roads = random_roads(rng, kind, camera.focus)
    paved = np.zeros((SIDE, SIDE), np.uint8)
    for road in roads:
        _line(paved, road.centre[::EVERY_TWO_METRES], 255, road.width)
    texture = _terrain(rng, snowy)
    for road in roads:
        # A wide strip and a narrow lighter one, both wider than the road, which is drawn over them.
        centre = road.centre[::EVERY_TWO_METRES]
        _line(texture, centre, _grey(rng, 120, 170), road.width + rng.uniform(2, 6))
        _line(texture, centre, _grey(rng, 150, 200), road.width + 0.9)
    _pave(rng, texture, paved, snowy)
    for road in roads:
        others = [other for other in roads if other is not road]
        _markings(rng, texture, road, others, snowy)
    if kind == "intersection":
        _crossings(rng, texture, roads)
    return Layout(kind, roads, cv2.GaussianBlur(texture, (3, 3), 0), paved)


def to_texture(points: Floats) -> NDArray[np.int32]:
    """Texture pixels of ground points (..., 2), in 1/16 pixel as OpenCV draws."""
    x = (points[..., 0] + REACH) * PER_METRE
    y = (2 * REACH - points[..., 1]) * PER_METRE  # rows count from the far end
    return np.round(np.stack([x, y], axis=-1) * (1 << SUBPIXEL)).astype(np.int32)


def texture_homography(camera: Camera) -> Floats:
    """3 x 3, from texture pixels (x, y, 1) to the camera's pixels (x, y, 1), up to a factor."""
    to_ground = np.array([[1 / PER_METRE, 0, -REACH], [0, -1 / PER_METRE, 2 * REACH], [0, 0, 1.0]])
    return camera.homography() @ to_ground


def _line(texture: Image | Mask, points: Floats, colour: object, width: float) -> None:
    """Draw a line on the texture; points in ground coordinates, width in metres."""
    thickness = max(1, round(width * PER_METRE))
    pixels = to_texture(points)
    cv2.polylines(texture, [pixels], False, colour, thickness, cv2.LINE_AA, SUBPIXEL)  # type: ignore[call-overload]


def _grey(rng: np.random.Generator, low: float, high: float) -> Colour:
    """A slightly tinted grey between `low` and `high`."""
    bgr = rng.uniform(low, high) + rng.uniform(-6, 6, 3)
    return tuple(float(value) for value in bgr)


def _terrain(rng: np.random.Generator, snowy: bool) -> Image:
    """Grass, earth, concrete or snow."""
    kinds = [(60, 105, 80), (70, 120, 110), (95, 125, 145), (140, 145, 150)]
    base = np.array(kinds[rng.integers(len(kinds))], np.float32) * rng.uniform(0.75, 1.2)
    if snowy:
        base = np.array([225, 222, 218], np.float32)
    grain = noise(rng, SIDE) * 6 + noise(rng, SIDE, 32) * 9
    plain = np.full((SIDE, SIDE, 3), base, np.float32)
    return cv2.add(plain, all_channels(grain), dtype=cv2.CV_8U)


def _pave(rng: np.random.Generator, texture: Image, paved: Mask, snowy: bool) -> None:
    """Asphalt with patches, cracks and stains, in place."""
    surface = np.full((SIDE, SIDE), rng.uniform(55, 125), np.float32)
    unevenness = 16 if snowy else 5  # snow lies unevenly
    surface += noise(rng, SIDE) * 4 + noise(rng, SIDE, 32) * unevenness
    if snowy:
        surface += 55
    grey = np.clip(surface, 0, 255).astype(np.uint8)

    for _ in range(rng.integers(3, 12)):
        centre = rng.uniform([-20, 5], [20, 70])
        corners = centre + rng.uniform(-3, 3, (4, 2))
        shade = int(rng.uniform(45, 120))
        is_patch = rng.random() < 0.5
        if is_patch:
            hull = cv2.convexHull(to_texture(corners))
            cv2.fillConvexPoly(grey, hull, shade, cv2.LINE_AA, SUBPIXEL)
        else:
            _line(grey, corners, shade, 0.12)

    tint = rng.uniform(0.94, 1.06, 3)
    coloured = cv2.merge([cv2.convertScaleAbs(grey, alpha=gain) for gain in tint])
    cv2.copyTo(coloured, paved, texture)


def _markings(
    rng: np.random.Generator, texture: Image, road: Road, others: list[Road], snowy: bool
) -> None:
    """Edge lines, lane lines and the middle line, with gaps where another road crosses."""
    white = _grey(rng, 150 if snowy else 190, 235)
    middle_colour = (90.0, 190.0, 225.0) if rng.random() < 0.4 else white  # BGR: yellow
    # Lengths in points of the line: dashes of 2-4 m, gaps of 3-6 m.
    dash, gap = rng.choice([4, 6, 8]), rng.choice([6, 8, 12])
    lanes = road.ahead + road.back
    for i in range(lanes + 1):
        inset = 0.0
        if i == 0:
            inset = 0.25
        elif i == lanes:
            inset = -0.25
        points = road.offset(-road.width / 2 + i * road.lane_width + inset)
        at_edge = i in (0, lanes)
        divides = i == road.back and not at_edge
        solid = at_edge or (divides and lanes > 2)  # not to be crossed
        colour = middle_colour if divides else white
        for start, end in _runs(_outside(points, others)):
            drawn, step = dash, dash + gap
            if solid:
                drawn = step = end - start
            for s in range(start, end, step):
                stop = min(end, s + drawn)
                _line(texture, points[s:stop:3], colour, 0.15)


def _outside(points: Floats, roads: list[Road]) -> NDArray[np.bool_]:
    """Which points lie neither on one of the roads nor within 0.8 m of it."""
    free = np.ones(len(points), bool)
    for road in roads:
        centre = road.centre[::EVERY_TWO_METRES]
        distances = np.linalg.norm(points[:, None] - centre[None], axis=2)
        free &= distances.min(axis=1) > road.width / 2 + 0.8
    return free


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[start, end) of each run of more than two true values."""
    padded = np.concatenate([[0], mask.astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(padded))  # starts and ends take turns
    runs = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start > 2:
            runs.append((int(start), int(end)))
    return runs


def _crossings(rng: np.random.Generator, texture: Image, roads: tuple[Road, ...]) -> None:
    """Zebra crossings where the first road meets the second."""
    if rng.random() < 0.35:
        return
    white = _grey(rng, 180, 230)
    road, other = roads
    # In points of the line: 2.5 m before and after the junction, bars that are 2 m long.
    aside, half_bar = 5, 2
    for start, end in _runs(~_outside(road.centre, [other])):
        for s in (start - aside, end + aside):
            if not aside < s < len(road.centre) - aside - 1:
                continue
            for across in np.arange(-road.width / 2 + 0.4, road.width / 2 - 0.2, 0.9):
                bar = road.offset(across)[s - half_bar : s + half_bar + 1]
                _line(texture, bar, white, 0.45)
