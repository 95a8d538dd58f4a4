"""Road layouts, and the ground as seen from straight above."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.prep.rendering.camera import Camera, Floats, noise

REACH = 45.0
"""The ground texture covers x in [-REACH, REACH], y in [0, 2 REACH], metres."""
PER_METRE = 9
SIDE = int(2 * REACH * PER_METRE)
LAYOUTS = ("straight", "curve", "intersection", "ramp")


@dataclass(frozen=True)
class Road:
    """Lanes along a centre line (n, 2), a point every half metre; `back` ones run against it."""

    centre: Floats
    ahead: int
    back: int
    lane_width: float

    @property
    def width(self) -> float:
        return (self.ahead + self.back) * self.lane_width

    def offset(self, distance: float) -> Floats:
        """The line at `distance` metres to the right of the centre line."""
        along = np.gradient(self.centre, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        return self.centre + distance * np.stack([along[:, 1], -along[:, 0]], axis=1)

    def lanes(self) -> list[Floats]:
        """Lane centre lines, each in its driving direction (traffic keeps to the right)."""
        left_edge = -self.width / 2
        lines = []
        for i in range(self.ahead + self.back):
            line = self.offset(left_edge + (i + 0.5) * self.lane_width)
            lines.append(line[::-1] if i < self.back else line)
        return lines


@dataclass(frozen=True)
class Layout:
    """The roads of one place, and the ground drawn from straight above.

    Attributes:
        texture: uint8 (SIDE, SIDE, 3), BGR.
        paved: uint8 (SIDE, SIDE), 255 where vehicles drive.
    """

    kind: str
    roads: tuple[Road, ...]
    texture: NDArray[np.uint8]
    paved: NDArray[np.uint8]

    def lanes(self) -> list[Floats]:
        return [lane for road in self.roads for lane in road.lanes()]


def layout(rng: np.random.Generator, camera: Camera, snowy: bool) -> Layout:
    """Roads through the middle of the camera's view, drawn with their surroundings."""
    kind = str(rng.choice(LAYOUTS, p=[0.3, 0.2, 0.32, 0.18]))
    roads = _roads(rng, kind, camera.focus)
    paved = np.zeros((SIDE, SIDE), np.uint8)
    for road in roads:
        _line(paved, road.centre[::4], 255, road.width)
    texture = _terrain(rng, snowy)
    for road in roads:
        _line(texture, road.centre[::4], _grey(rng, 120, 170), road.width + rng.uniform(2, 6))
        _line(texture, road.centre[::4], _grey(rng, 150, 200), road.width + 0.9)
    _pave(rng, texture, paved, snowy)
    for road in roads:
        others = [r for r in roads if r is not road]
        _markings(rng, texture, road, others, snowy)
    if kind == "intersection":
        _crossings(rng, texture, roads)
    return Layout(kind, roads, cv2.GaussianBlur(texture, (3, 3), 0), paved)


def to_texture(points: Floats) -> NDArray[np.int32]:
    """Texture pixels of ground points (..., 2), in 1/16 pixel."""
    x = (points[..., 0] + REACH) * PER_METRE
    y = (2 * REACH - points[..., 1]) * PER_METRE
    return np.round(np.stack([x, y], axis=-1) * 16).astype(np.int32)


def texture_homography(camera: Camera) -> Floats:
    """3 x 3, from texture pixels to the camera's pixels."""
    to_ground = np.array([[1 / PER_METRE, 0, -REACH], [0, -1 / PER_METRE, 2 * REACH], [0, 0, 1.0]])
    return camera.homography() @ to_ground


def _roads(rng: np.random.Generator, kind: str, focus: Floats) -> tuple[Road, ...]:
    lane_width = rng.uniform(3.1, 3.7)
    heading = rng.uniform(-1.3, 1.3)
    middle = focus + rng.uniform(-3, 3, 2)
    ahead, back = int(rng.integers(1, 4)), int(rng.integers(0, 3))
    if ahead + back < 2:
        back = 1
    bend = rng.choice([-1, 1]) / rng.uniform(28, 70) if kind == "curve" else 0.0
    main = Road(_arc(middle, heading, bend), ahead, back, lane_width)
    if kind == "intersection":
        turn = heading + rng.choice([-1, 1]) * rng.uniform(1.2, 1.9)
        lanes = int(rng.integers(1, 3))
        return main, Road(_arc(middle, turn, 0.0), lanes, lanes, lane_width)
    if kind == "ramp":
        side = rng.choice([-1, 1])
        start = main.offset(side * (main.width / 2 - 0.5))[len(main.centre) // 2 - 30]
        return main, Road(_arc(start, heading, side / rng.uniform(25, 45), 0.0), 1, 0, lane_width)
    return (main,)


def _arc(middle: Floats, heading: float, bend: float, behind: float = 80.0) -> Floats:
    """A line through `middle`: `heading` radians right of +y there, `bend` 1/m of right turn."""
    s = np.arange(-behind, 80.0, 0.5)
    angle = np.clip(heading + bend * s, heading - 2.0, heading + 2.0)
    steps = np.stack([np.sin(angle), np.cos(angle)], axis=1) * 0.5
    line = np.cumsum(steps, axis=0)
    return line - line[np.argmin(np.abs(s))] + middle


def _line(image: NDArray[np.uint8], points: Floats, colour: object, width: float) -> None:
    pixels = to_texture(points)
    thickness = max(1, round(width * PER_METRE))
    cv2.polylines(image, [pixels], False, colour, thickness, cv2.LINE_AA, 4)  # type: ignore[call-overload]


def _grey(rng: np.random.Generator, low: float, high: float) -> tuple[float, ...]:
    return tuple(float(v) for v in rng.uniform(low, high) + rng.uniform(-6, 6, 3))


def _terrain(rng: np.random.Generator, snowy: bool) -> NDArray[np.uint8]:
    """Grass, earth, concrete or snow."""
    kinds = [(60, 105, 80), (70, 120, 110), (95, 125, 145), (140, 145, 150)]
    base = np.array(kinds[rng.integers(len(kinds))], np.float32) * rng.uniform(0.75, 1.2)
    if snowy:
        base = np.array([225, 222, 218], np.float32)
    grain = noise(rng, SIDE) * 6 + noise(rng, SIDE, 32) * 9
    return cv2.add(np.full((SIDE, SIDE, 3), base, np.float32), cv2.merge([grain] * 3), dtype=0)


def _pave(
    rng: np.random.Generator,
    texture: NDArray[np.uint8],
    paved: NDArray[np.uint8],
    snowy: bool,
) -> None:
    """Asphalt with patches, cracks and stains, in place."""
    surface = np.full((SIDE, SIDE), rng.uniform(55, 125), np.float32)
    surface += noise(rng, SIDE) * 4 + noise(rng, SIDE, 32) * (16 if snowy else 5)
    if snowy:
        surface += 55
    grey = np.clip(surface, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(3, 12)):
        centre = rng.uniform([-20, 5], [20, 70])
        corners = centre + rng.uniform(-3, 3, (4, 2))
        shade = int(rng.uniform(45, 120))
        if rng.random() < 0.5:
            cv2.fillConvexPoly(grey, cv2.convexHull(to_texture(corners)), shade, cv2.LINE_AA, 4)
        else:
            _line(grey, corners, shade, 0.12)
    tint = rng.uniform(0.94, 1.06, 3)
    coloured = cv2.merge([cv2.convertScaleAbs(grey, alpha=t) for t in tint])
    cv2.copyTo(coloured, paved, texture)


def _markings(
    rng: np.random.Generator,
    texture: NDArray[np.uint8],
    road: Road,
    others: list[Road],
    snowy: bool,
) -> None:
    """Edge lines, lane lines and the middle line, left out where another road crosses."""
    white = _grey(rng, 150 if snowy else 190, 235)
    middle = (90.0, 190.0, 225.0) if rng.random() < 0.4 else white
    edge = road.width / 2
    dash, gap = rng.choice([4, 6, 8]), rng.choice([6, 8, 12])
    for i in range(road.ahead + road.back + 1):
        border = i in (0, road.ahead + road.back)
        inset = 0.25 if i == 0 else -0.25 if border else 0.0
        points = road.offset(-edge + i * road.lane_width + inset)
        divides = i == road.back and not border
        runs = _runs(_outside(points, others))
        for start, end in runs:
            solid = border or (divides and road.ahead + road.back > 2)
            step = end - start if solid else dash + gap
            for s in range(start, end, max(1, step)):
                piece = points[s : min(end, s + step if solid else s + dash) : 3]
                _line(texture, piece, middle if divides else white, 0.15)


def _outside(points: Floats, roads: list[Road]) -> NDArray[np.bool_]:
    """Which points lie on none of the roads."""
    free = np.ones(len(points), bool)
    for road in roads:
        gaps = np.linalg.norm(points[:, None] - road.centre[None, ::4], axis=2).min(axis=1)
        free &= gaps > road.width / 2 + 0.8
    return free


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[start, end) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 2]


def _crossings(
    rng: np.random.Generator, texture: NDArray[np.uint8], roads: tuple[Road, ...]
) -> None:
    """Zebra crossings where the first road meets the second."""
    if rng.random() < 0.35:
        return
    white = _grey(rng, 180, 230)
    road, other = roads[0], roads[1]
    for start, end in _runs(~_outside(road.centre, [other])):
        for s in (start - 5, end + 5):
            if not 5 < s < len(road.centre) - 6:
                continue
            for across in np.arange(-road.width / 2 + 0.4, road.width / 2 - 0.2, 0.9):
                _line(texture, road.offset(across)[s - 2 : s + 3], white, 0.45)
