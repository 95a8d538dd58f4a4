"""What vehicles look like: their bodies, windows, wheels and lamps as quads.

Parts are given in the vehicle's own axes, metres: x right, y ahead, z up.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from data.prep.rendering.camera import Floats
from data.prep.rendering.canvas import Colour
from data.prep.rendering.vehicles import (
    BODY,
    DISC,
    FRONT,
    HEADLAMP,
    INDICATOR,
    KINDS,
    NO_LAMP,
    REAR,
    REAR_LAMP,
    WHEEL,
    Vehicle,
    on_quad,
)

Point = tuple[float, float, float]

Span = tuple[float, float]
"""From, to."""

Patch = tuple[float, float, float, float]
"""(u0, u1, v0, v1): a part of a face, as shares of its sides (see `on_quad`)."""

GLASS = (62, 52, 44)
DARK = (28, 28, 28)
CHASSIS = (50, 50, 50)
CARGO = (205, 205, 200)
UNDERSIDE = (38, 40, 44)
RUBBER = (30, 30, 30)
COLOURS = (
    (225, 225, 222), (190, 190, 190), (120, 118, 115), (45, 45, 45), (130, 75, 40), (45, 40, 165),
    (150, 175, 190), (60, 95, 55), (40, 170, 225), (30, 110, 220), (95, 50, 45), (160, 130, 90),
)  # fmt: skip
"""Paints, BGR."""

PAINT = (-1.0, -1.0, -1.0)
"""A placeholder for the colour that `build` puts in: no colour is negative."""

WHEEL_CORNERS = 8


def build(kind: str, paint: tuple[float, ...]) -> Vehicle:
    """An undamaged vehicle at the origin, painted in a BGR colour."""
    bare = _unpainted(kind)
    colours = np.where(bare.colours < 0, np.array(paint), bare.colours)
    if kind == "truck" and sum(paint) > 330:
        # The cargo box of a bright truck has a darker shade of its paint; others keep CARGO.
        colours[bare.groups == REAR] = 0.75 * np.array(paint)
    return replace(bare, colours=colours)


@lru_cache(maxsize=len(KINDS))
def _unpainted(kind: str) -> Vehicle:
    """A vehicle whose painted parts have the colour PAINT."""
    length, width, height = KINDS[kind]
    end, half = length / 2, width / 2
    mesh = _Mesh()
    if kind in ("van", "bus"):
        body, split = _box_on_wheels(mesh, kind, end, half, height)
    elif kind == "truck":
        body, split = _truck(mesh, end, half, height)
    else:
        body, split = _car(mesh, kind, end, half, height)
    radius = 0.5 if kind in ("truck", "bus") else 0.34
    for y in (end * 0.62, -end * 0.62):
        for x in (half, -half):
            mesh.wheel(x, y, radius)
    _lights(mesh, body)
    return mesh.vehicle(kind, split)


def _box_on_wheels(
    mesh: "_Mesh", kind: str, end: float, half: float, height: float
) -> tuple[list[Floats], float]:
    """Van or bus: one block with windows.

    Returns the faces of the body, and the vehicle's `split`.
    """
    body = mesh.block(BODY, (-end, end), (0.35, height), half, (-end, end - 0.35), half - 0.12)
    front, back, left, right = body[:4]
    mesh.decal(BODY, front, (0.08, 0.92, 0.5, 0.9), GLASS)
    mesh.decal(BODY, back, (0.15, 0.85, 0.6, 0.88), GLASS)
    panes = 6 if kind == "bus" else 2
    for side in (left, right):
        for i in range(panes):
            start, stop = (i + 0.12) / panes, (i + 0.9) / panes
            if kind == "bus" or stop > 0.6 or start < 0.4:
                mesh.decal(BODY, side, (start, stop, 0.52, 0.86), GLASS)
    return body, 0.0


def _truck(mesh: "_Mesh", end: float, half: float, height: float) -> tuple[list[Floats], float]:
    """Chassis, cab and cargo box.

    Returns the faces of the chassis, and the vehicle's `split`, between cab and box.
    """
    split = end - 2.1
    chassis = mesh.block(BODY, (-end, end), (0.45, 0.95), half, paint=CHASSIS)
    cab_span = (split + 0.1, end)
    cab = mesh.block(FRONT, cab_span, (0.95, 2.5), half - 0.05, (split + 0.1, end - 0.3))
    windscreen, _, left, right = cab[:4]
    mesh.decal(FRONT, windscreen, (0.08, 0.92, 0.4, 0.92), GLASS)
    for side in (left, right):
        mesh.decal(FRONT, side, (0.2, 0.85, 0.5, 0.9), GLASS)
    mesh.block(REAR, (-end, split - 0.1), (0.95, height), half, paint=CARGO)
    return chassis, split


def _car(
    mesh: "_Mesh", kind: str, end: float, half: float, height: float
) -> tuple[list[Floats], float]:
    """Hatchback, sedan, SUV or pickup: a low body and a cabin on it.

    Returns the faces of the body, and the vehicle's `split`.
    """
    waist = height * 0.62
    body = mesh.block(
        BODY, (-end, end), (0.28, waist), half, (-end + 0.08, end - 0.18), half - 0.06
    )
    # Metres from the rear end to the cabin: a sedan has a boot there, a pickup its bed.
    overhang = {"hatchback": 0.08, "sedan": 0.85, "suv": 0.1, "pickup": 2.1}[kind]
    rear_slope = 0.25 if kind == "pickup" else 0.45
    cabin = mesh.block(
        FRONT,
        (-end + overhang, end - 1.15),
        (waist, height),
        half - 0.08,
        (-end + overhang + rear_slope, end - 1.85),
        half - 0.3,
    )
    for face in cabin[:4]:
        mesh.decal(FRONT, face, (0.06, 0.94, 0.1, 0.9), GLASS)
    for side in cabin[2:4]:  # a painted post between front and rear window
        mesh.decal(FRONT, side, (0.47, 0.52, 0.1, 0.9), PAINT)
    if kind == "pickup":  # the open bed, on top of the body
        mesh.decal(BODY, body[4], (0.08, 0.92, 0.03, 0.36), (45, 45, 45))
    return body, 0.0


def _lights(mesh: "_Mesh", body: list[Floats]) -> None:
    """Add lamps at the corners of the front and back faces, a grille and a number plate."""
    front, back = body[0], body[1]
    for low, high in ((0.04, 0.24), (0.76, 0.96)):
        mesh.decal(BODY, front, (low, high, 0.5, 0.75), (215, 225, 225), HEADLAMP)
        mesh.decal(BODY, back, (low, high, 0.5, 0.78), (35, 25, 130), REAR_LAMP)
    for low, high in ((0.0, 0.05), (0.95, 1.0)):
        for face in (front, back):
            mesh.decal(BODY, face, (low, high, 0.5, 0.75), (40, 110, 190), INDICATOR)
    mesh.decal(BODY, front, (0.3, 0.7, 0.2, 0.5), DARK)
    mesh.decal(BODY, back, (0.38, 0.62, 0.3, 0.48), (200, 205, 205))


class _Mesh:
    """Collects quads while a vehicle is built."""

    def __init__(self) -> None:
        self._quads: list[Floats] = []
        self._colours: list[Floats] = []
        self._groups: list[int] = []
        self._lamps: list[int] = []

    def block(
        self,
        group: int,
        y: Span,
        z: Span,
        half: float,
        top_y: Span | None = None,
        top_half: float | None = None,
        paint: Colour = PAINT,
    ) -> list[Floats]:
        """A block whose top may be smaller than its bottom.

        Args:
            y: back and front end of the bottom. z: heights of bottom and top.
            half: half the width of the bottom.
            top_y, top_half: the same for the top; by default those of the bottom.

        Returns:
            Its faces (4, 3): front, back, left, right, top, bottom.
        """
        if top_y is None:
            top_y = y
        if top_half is None:
            top_half = half
        low = _corners(y, z[0], half)
        high = _corners(top_y, z[1], top_half)
        back_left, back_right, front_right, front_left = zip(low, high, strict=True)
        faces = [
            _side(front_left, front_right),
            _side(back_left, back_right),
            _side(back_left, front_left),
            _side(back_right, front_right),
            np.array(high),
            np.array(low),
        ]
        centre = np.mean(low + high, axis=0)
        for face in faces[:5]:
            self._add(group, face, paint, centre)
        self._add(group, faces[5], UNDERSIDE, centre)
        if group == BODY:
            self._underside(faces[5])
        return faces

    def _underside(self, face: Floats) -> None:
        """Add what shows when a vehicle lies overturned: two sills, the exhaust and the tank."""
        for patch in ((0.05, 0.95, 0.16, 0.22), (0.05, 0.95, 0.78, 0.84), (0.44, 0.56, 0.1, 0.9)):
            self.decal(BODY, face, patch, (105, 108, 112))
        self.decal(BODY, face, (0.62, 0.85, 0.06, 0.3), (82, 95, 110))

    def decal(
        self, group: int, face: Floats, patch: Patch, colour: Colour, lamp: int = NO_LAMP
    ) -> None:
        """Add a patch on a face: it comes later in the group, so it is painted over the face."""
        u0, u1, v0, v1 = patch
        corners = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
        quad = np.array([on_quad(face, u, v) for u, v in corners])
        # A point of the vehicle behind the face, for the direction of the normal.
        inside = np.array([0.0, face[:, 1].mean() * 0.5, face[:, 2].mean() * 0.7 + 0.2])
        if np.ptp(face[:, 2]) < 0.01:  # a level face: a bottom (below 0.6 m) or a top
            height = face[0, 2]
            is_bottom = height < 0.6
            inside[2] = height + 1 if is_bottom else height - 1
        self._add(group, quad, colour, inside, lamp)

    def wheel(self, x: float, y: float, radius: float) -> None:
        """A wheel on the ground whose outer side is at x: tread, inner and outer disc, hubs."""
        # Turned by half a corner, so that the wheel rests on an edge of the polygon.
        angles = np.linspace(0, 2 * np.pi, WHEEL_CORNERS, endpoint=False) + np.pi / WHEEL_CORNERS
        ys = y + radius * np.cos(angles)
        zs = radius + radius * np.sin(angles)
        ring = np.stack([np.zeros(WHEEL_CORNERS), ys, zs], axis=1)
        outwards = np.sign(x)
        outer = ring + np.array([[x + 0.03 * outwards, 0, 0]])
        inner = ring + np.array([[x - 0.22 * outwards, 0, 0]])
        centre = np.array([x - 0.1 * outwards, y, radius])
        for i in range(WHEEL_CORNERS):
            j = (i + 1) % WHEEL_CORNERS
            tread = np.stack([outer[i], outer[j], inner[j], inner[i]])
            self._add(WHEEL, tread, RUBBER, centre)
        # The outer disc is added a second time as DISC, which is painted after the body.
        for disc, group in ((outer, WHEEL), (inner, WHEEL), (outer, DISC)):
            for corners in ([0, 1, 2, 3], [0, 3, 4, 7], [4, 5, 6, 7]):  # an octagon as three quads
                self._add(group, disc[corners], RUBBER, centre)
            middle = disc.mean(axis=0)
            hub = middle + (disc[::2] - middle) * 0.55
            self._add(group, hub, (135, 135, 135), centre)

    def _add(
        self, group: int, quad: Floats, colour: Colour, inside: Floats, lamp: int = NO_LAMP
    ) -> None:
        """Keep a quad, its corners in the order that makes its normal point away from `inside`."""
        normal = np.cross(quad[2] - quad[0], quad[3] - quad[1])
        if normal @ (quad.mean(axis=0) - inside) < 0:
            quad = quad[::-1]
        self._quads.append(quad)
        self._colours.append(np.array(colour, float))
        self._groups.append(group)
        self._lamps.append(lamp)

    def vehicle(self, kind: str, split: float) -> Vehicle:
        """The vehicle made of the quads."""
        return Vehicle(
            kind,
            np.array(self._quads),
            np.array(self._colours),
            np.array(self._groups),
            np.array(self._lamps),
            split,
        )


def _corners(y: Span, z: float, half: float) -> list[Point]:
    """A level rectangle: back left, back right, front right, front left."""
    back, front = y
    return [(-half, back, z), (half, back, z), (half, front, z), (-half, front, z)]


def _side(first: tuple[Point, Point], second: tuple[Point, Point]) -> Floats:
    """The face between two edges (low, high) of a block: u along its foot, v upwards."""
    return np.array([first[0], second[0], second[1], first[1]])
