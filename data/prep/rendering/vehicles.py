"""Vehicles as small quad meshes: where they stand, damage, painting."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from data.prep.rendering.camera import SUBPIXEL, Camera, Canvas, Floats, fixed

WHEEL, BODY, DISC, FRONT, REAR = range(5)
"""Groups of quads: what is painted before what depends on where the camera stands."""

KINDS = {
    "hatchback": (3.9, 1.72, 1.48), "sedan": (4.6, 1.8, 1.45), "suv": (4.7, 1.9, 1.75),
    "pickup": (5.2, 1.92, 1.8), "van": (5.3, 2.0, 2.2), "truck": (7.6, 2.35, 3.1),
    "bus": (10.5, 2.5, 3.0),
}  # fmt: skip
"""Length, width, height in metres."""


@dataclass(frozen=True)
class Vehicle:
    """A vehicle where it stands.

    Attributes:
        quads: (n, 4, 3), metres, x right, y ahead, z up from the ground below its middle.
        colours: (n, 3), BGR.
        groups: (n,), one of WHEEL .. REAR.
        lamps: (n,), 0 no lamp, 1 head, 2 rear, 3 indicator.
        position: (x, y) on the ground; yaw: radians right of +y; roll: radians about its length.
    """

    kind: str
    quads: Floats
    colours: Floats
    groups: NDArray[np.int64]
    lamps: NDArray[np.int64]
    split: float
    position: tuple[float, float] = (0.0, 0.0)
    yaw: float = 0.0
    roll: float = 0.0
    crushed: bool = False
    lit: tuple[int, ...] = ()

    @property
    def length(self) -> float:
        return KINDS[self.kind][0]

    @property
    def width(self) -> float:
        return KINDS[self.kind][1]

    def at(
        self, position: Floats | tuple[float, float], yaw: float, roll: float = 0.0
    ) -> "Vehicle":
        return replace(
            self,
            position=(float(position[0]), float(position[1])),
            yaw=float(yaw),
            roll=float(roll),
        )

    def rotation(self) -> Floats:
        """3 x 3, from the vehicle's axes to the ground's."""
        sin, cos = np.sin(self.yaw), np.cos(self.yaw)
        yaw = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]])
        sin, cos = np.sin(self.roll), np.cos(self.roll)
        return yaw @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])

    def placed(self) -> Floats:
        """The quads in ground coordinates, resting on the ground."""
        quads = self.quads @ self.rotation().T
        quads[..., 2] -= quads[..., 2].min()
        quads[..., 0] += self.position[0]
        quads[..., 1] += self.position[1]
        return quads

    def footprint(self) -> NDArray[np.float32]:
        """Corners (n, 2) of the convex ground area below it."""
        return cv2.convexHull(self.placed()[..., :2].reshape(-1, 2).astype(np.float32))[:, 0]


def crush(
    vehicle: Vehicle, rng: np.random.Generator, hit: tuple[float, float], depth: float
) -> Vehicle:
    """The vehicle dented around `hit` (x, y in its own axes) by about `depth` metres."""
    rigid = np.isin(vehicle.groups, (WHEEL, DISC))
    soft = ~rigid
    quads = _subdivided(vehicle.quads[soft], 3)
    colours = np.repeat(vehicle.colours[soft], 9, axis=0)
    centre = np.array([*hit, 0.8])
    reach = 0.9 + 1.3 * depth
    weight = np.exp(-(((quads - centre) / [reach, reach, 1.6]) ** 2).sum(axis=-1))[..., None]
    inwards = -np.array([hit[0], hit[1], 0.0]) / max(0.3, float(np.hypot(*hit)))
    waves = np.sin(quads @ rng.uniform(-4, 4, (3, 3)) + rng.uniform(0, 6, 3))
    moved = quads + weight * (inwards * depth + waves * depth * 0.3 * [1, 1, 0.7])
    moved[..., 2] -= depth * 0.3 * weight[..., 0] * (quads[..., 2] > 0.9)
    grime = 1 - 0.5 * weight.mean(axis=1) * rng.uniform(0.3, 1.0, (len(quads), 1)) * min(1, depth)
    return replace(
        vehicle,
        quads=np.concatenate([vehicle.quads[rigid], moved]),
        colours=np.concatenate([vehicle.colours[rigid], colours * grime]),
        groups=np.concatenate([vehicle.groups[rigid], np.repeat(vehicle.groups[soft], 9)]),
        lamps=np.concatenate([vehicle.lamps[rigid], np.repeat(vehicle.lamps[soft], 9)]),
        crushed=True,
    )


def _subdivided(quads: Floats, n: int) -> Floats:
    """Each quad cut into n x n."""
    t = np.linspace(0, 1, n + 1)
    u, v = np.meshgrid(t, t)
    u, v = u[..., None], v[..., None]
    a, b, c, d = (quads[:, i, None, None] for i in range(4))
    grid = (a * (1 - u) + b * u) * (1 - v) + (d * (1 - u) + c * u) * v
    corners = [grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, 1:], grid[:, 1:, :-1]]
    return np.stack(corners, axis=3).reshape(-1, 4, 3)


def paint(canvas: Canvas, camera: Camera, vehicle: Vehicle, sun: Floats, owner: int = 0) -> None:
    """Paint a vehicle over what is there; its pixels get `owner`."""
    quads = vehicle.placed()
    if camera.depth(quads).min() < 1.0:
        return
    pixels = camera.project(quads)
    low, high = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    if (high < 0).any() or (low > camera.size).any():
        return
    normals = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    middles = quads.mean(axis=1)
    facing = ((camera.position - middles) * normals).sum(axis=1) > 0
    light = 0.62 + 0.38 * np.clip(normals @ sun, -0.4, 1)
    shown = np.clip(vehicle.colours * light[:, None], 0, 255).tolist()
    points = fixed(pixels)
    farness = camera.depth(middles)
    bent = vehicle.crushed & ~np.isin(vehicle.groups, (WHEEL, DISC))
    for group in _order(camera, vehicle):
        chosen = np.flatnonzero((vehicle.groups == group) & (facing | bent))
        if vehicle.crushed:
            chosen = chosen[np.argsort(-farness[chosen], kind="stable")]
        for i in chosen:
            cv2.fillConvexPoly(canvas.image, points[i], shown[i], cv2.LINE_AA, SUBPIXEL)
    canvas.own(pixels.reshape(-1, 2), owner)
    _shine(canvas, vehicle, pixels, facing)


def _order(camera: Camera, vehicle: Vehicle) -> list[int]:
    """Groups from back to front, as the camera stands to the vehicle."""
    lift = -(vehicle.quads @ vehicle.rotation().T)[..., 2].min()
    origin = np.array([*vehicle.position, lift])
    eye = vehicle.rotation().T @ (camera.position - origin)
    upper = [REAR, FRONT] if eye[1] > vehicle.split else [FRONT, REAR]
    return [*upper, BODY, WHEEL] if eye[2] < 0.3 else [WHEEL, BODY, DISC, *upper]


GLOW = {1: 2.2, 2: 1.2, 3: 3.5}
LAMP_COLOURS = {1: (190.0, 235.0, 255.0), 2: (30.0, 30.0, 255.0), 3: (20.0, 150.0, 255.0)}


def _shine(canvas: Canvas, vehicle: Vehicle, pixels: Floats, facing: NDArray[np.bool_]) -> None:
    """Switched-on lamps: bright, and noted for the glow."""
    for lamp in vehicle.lit:
        for i in np.flatnonzero((vehicle.lamps == lamp) & facing):
            colour = LAMP_COLOURS[lamp]
            cv2.fillConvexPoly(canvas.image, fixed(pixels[i]), colour, cv2.LINE_AA, SUBPIXEL)
            x, y = pixels[i].mean(axis=0)
            radius = float(np.ptp(pixels[i], axis=0).max()) * GLOW[lamp]
            canvas.lamps.append((float(x), float(y), radius, colour))
