"""What vehicles look like: their bodies, windows, wheels and lamps as quads."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from data.prep.rendering.camera import Floats
from data.prep.rendering.vehicles import BODY, DISC, FRONT, KINDS, REAR, WHEEL, Vehicle

GLASS = (62, 52, 44)
DARK = (28, 28, 28)
COLOURS = (
    (225, 225, 222), (190, 190, 190), (120, 118, 115), (45, 45, 45), (130, 75, 40), (45, 40, 165),
    (150, 175, 190), (60, 95, 55), (40, 170, 225), (30, 110, 220), (95, 50, 45), (160, 130, 90),
)  # fmt: skip


def build(kind: str, paint: tuple[float, ...]) -> Vehicle:
    """An undamaged vehicle at the origin, painted in a BGR colour."""
    bare = _bare(kind)
    colours = np.where(bare.colours < 0, np.array(paint), bare.colours)
    if kind == "truck" and sum(paint) > 330:
        colours[bare.groups == REAR] = 0.75 * np.array(paint)
    return replace(bare, colours=colours)


PAINT = np.full(3, -1.0)
"""Stands for the colour that `build` puts in."""


@lru_cache(maxsize=len(KINDS))
def _bare(kind: str) -> Vehicle:
    length, width, height = KINDS[kind]
    end, half = length / 2, width / 2
    parts = _Parts()
    if kind in ("van", "bus"):
        body = parts.block(BODY, (-end, end), (0.35, height), half, (-end, end - 0.35), half - 0.12)
        _windows(parts, body, kind)
        split = 0.0
    elif kind == "truck":
        split = end - 2.1
        body = parts.block(BODY, (-end, end), (0.45, 0.95), half, paint=np.array([50, 50, 50.0]))
        cab = parts.block(
            FRONT, (split + 0.1, end), (0.95, 2.5), half - 0.05, (split + 0.1, end - 0.3)
        )
        parts.decal(FRONT, cab[0], (0.08, 0.92, 0.4, 0.92), GLASS)
        for side in cab[2:4]:
            parts.decal(FRONT, side, (0.2, 0.85, 0.5, 0.9), GLASS)
        parts.block(
            REAR, (-end, split - 0.1), (0.95, height), half, paint=np.array([205, 205, 200.0])
        )
    else:
        split = _car(parts, kind, end, half, height)
        body = parts.last
    radius = 0.5 if kind in ("truck", "bus") else 0.34
    for y in (end * 0.62, -end * 0.62):
        for x in (half, -half):
            parts.wheel(x, y, radius)
    _lights(parts, body, end, half, 1.0 if kind in ("truck", "bus", "van") else 0.8)
    return parts.vehicle(kind, split)


def _car(parts: "_Parts", kind: str, end: float, half: float, height: float) -> float:
    """Hatchback, sedan, SUV or pickup: a low body and a cabin on it."""
    waist = height * 0.62
    parts.last = parts.block(
        BODY, (-end, end), (0.28, waist), half, (-end + 0.08, end - 0.18), half - 0.06
    )
    rear = {"hatchback": 0.08, "sedan": 0.85, "suv": 0.1, "pickup": 2.1}[kind]
    cabin = parts.block(
        FRONT,
        (-end + rear, end - 1.15),
        (waist, height),
        half - 0.08,
        (-end + rear + (0.25 if kind == "pickup" else 0.45), end - 1.85),
        half - 0.3,
    )
    for face in cabin[:4]:
        parts.decal(FRONT, face, (0.06, 0.94, 0.1, 0.9), GLASS)
    for side in cabin[2:4]:
        parts.decal(FRONT, side, (0.47, 0.52, 0.1, 0.9), PAINT)
    if kind == "pickup":
        parts.decal(BODY, parts.last[4], (0.08, 0.92, 0.03, 0.36), (45, 45, 45))
    return 0.0


def _windows(parts: "_Parts", body: list[Floats], kind: str) -> None:
    parts.decal(BODY, body[0], (0.08, 0.92, 0.5, 0.9), GLASS)
    parts.decal(BODY, body[1], (0.15, 0.85, 0.6, 0.88), GLASS)
    panes = 6 if kind == "bus" else 2
    for side in body[2:4]:
        for i in range(panes):
            at = (i + 0.12) / panes, (i + 0.9) / panes
            if kind == "bus" or at[1] > 0.6 or at[0] < 0.4:
                parts.decal(BODY, side, (*at, 0.52, 0.86), GLASS)


def _lights(parts: "_Parts", body: list[Floats], end: float, half: float, z: float) -> None:
    front, back = body[0], body[1]
    for low, high in ((0.04, 0.24), (0.76, 0.96)):
        parts.decal(BODY, front, (low, high, 0.5, 0.75), (215, 225, 225), 1)
        parts.decal(BODY, back, (low, high, 0.5, 0.78), (35, 25, 130), 2)
    for low, high in ((0.0, 0.05), (0.95, 1.0)):
        for face in (front, back):
            parts.decal(BODY, face, (low, high, 0.5, 0.75), (40, 110, 190), 3)
    parts.decal(BODY, front, (0.3, 0.7, 0.2, 0.5), DARK)
    parts.decal(BODY, back, (0.38, 0.62, 0.3, 0.48), (200, 205, 205))


class _Parts:
    """Collects quads while a vehicle is built."""

    def __init__(self) -> None:
        self.last: list[Floats] = []
        self._quads: list[Floats] = []
        self._colours: list[Floats] = []
        self._groups: list[int] = []
        self._lamps: list[int] = []
        self._centre = np.zeros(3)

    def block(
        self,
        group: int,
        y: tuple[float, float],
        z: tuple[float, float],
        half: float,
        top_y: tuple[float, float] | None = None,
        top_half: float | None = None,
        paint: Floats = PAINT,
    ) -> list[Floats]:
        """A frustum; returns its faces: front, back, left, right, top, bottom."""
        (y0, y1), (t0, t1) = y, top_y or y
        h, th = half, half if top_half is None else top_half
        a, b, c, d = (-h, y0, z[0]), (h, y0, z[0]), (h, y1, z[0]), (-h, y1, z[0])
        e, f, g, i = (-th, t0, z[1]), (th, t0, z[1]), (th, t1, z[1]), (-th, t1, z[1])
        faces = [(d, c, g, i), (a, b, f, e), (a, d, i, e), (b, c, g, f), (e, f, g, i), (a, b, c, d)]
        self._centre = np.mean([a, b, c, d, e, f, g, i], axis=0)
        for n, face in enumerate(faces):
            self._add(group, np.array(face), np.array([38, 40, 44.0]) if n == 5 else paint)
        if group == BODY:
            self._underside(np.array(faces[5]))
        return [np.array(face) for face in faces]

    def _underside(self, face: Floats) -> None:
        for at in ((0.05, 0.95, 0.16, 0.22), (0.05, 0.95, 0.78, 0.84), (0.44, 0.56, 0.1, 0.9)):
            self.decal(BODY, face, at, (105, 108, 112))
        self.decal(BODY, face, (0.62, 0.85, 0.06, 0.3), (82, 95, 110))

    def decal(
        self,
        group: int,
        face: Floats,
        at: tuple[float, float, float, float],
        colour: tuple[float, ...] | Floats,
        lamp: int = 0,
    ) -> None:
        """A patch on a face: (u0, u1, v0, v1) as shares of its sides."""
        u0, u1, v0, v1 = at
        corners = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
        a, b, c, d = face
        patch = [(a * (1 - u) + b * u) * (1 - v) + (d * (1 - u) + c * u) * v for u, v in corners]
        self._centre = np.array([0.0, face[:, 1].mean() * 0.5, face[:, 2].mean() * 0.7 + 0.2])
        if np.ptp(face[:, 2]) < 0.01:
            self._centre[2] = face[0, 2] + (1 if face[0, 2] < 0.6 else -1)
        self._add(group, np.array(patch), np.array(colour, float), lamp)

    def wheel(self, x: float, y: float, radius: float) -> None:
        """A wheel whose outer side is at x."""
        angles = np.linspace(0, 2 * np.pi, 8, endpoint=False) + np.pi / 8
        ring = np.stack(
            [np.zeros(8), y + radius * np.cos(angles), radius + radius * np.sin(angles)], 1
        )
        out = np.sign(x)
        outer, inner = (
            ring + np.array([[x + 0.03 * out, 0, 0]]),
            ring + np.array([[x - 0.22 * out, 0, 0]]),
        )
        self._centre = np.array([x - 0.1 * out, y, radius])
        rubber = np.array([30, 30, 30.0])
        for i in range(8):
            j = (i + 1) % 8
            self._add(WHEEL, np.stack([outer[i], outer[j], inner[j], inner[i]]), rubber)
        for disc, group in ((outer, WHEEL), (inner, WHEEL), (outer, DISC)):
            for i in ((0, 1, 2, 3), (0, 3, 4, 7), (4, 5, 6, 7)):
                self._add(group, disc[list(i)], rubber)
            hub = disc.mean(axis=0) + (disc[::2] - disc.mean(axis=0)) * 0.55
            self._add(group, hub, np.array([135, 135, 135.0]))

    def _add(self, group: int, quad: Floats, colour: Floats, lamp: int = 0) -> None:
        """Keep a quad, its corners in the order that makes its normal point outwards."""
        normal = np.cross(quad[2] - quad[0], quad[3] - quad[1])
        if normal @ (quad.mean(axis=0) - self._centre) < 0:
            quad = quad[::-1]
        self._quads.append(quad)
        self._colours.append(colour)
        self._groups.append(group)
        self._lamps.append(lamp)

    def vehicle(self, kind: str, split: float) -> Vehicle:
        return Vehicle(
            kind,
            np.array(self._quads),
            np.array(self._colours),
            np.array(self._groups),
            np.array(self._lamps),
            split,
        )
