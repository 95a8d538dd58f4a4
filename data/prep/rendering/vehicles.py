"""Vehicles as small meshes of quads: their sizes, and their place on the ground."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data.prep.rendering.camera import Floats
from data.prep.rendering.canvas import convex

WHEEL, BODY, DISC, FRONT, REAR = range(5)
"""Groups of quads: wheels, body, the outer discs of the wheels, and the parts above the body, front
and rear. A group is painted as a whole; the order depends on where the camera is."""

NO_LAMP, HEADLAMP, REAR_LAMP, INDICATOR = range(4)

KINDS = {
    "hatchback": (3.9, 1.72, 1.48), "sedan": (4.6, 1.8, 1.45), "suv": (4.7, 1.9, 1.75),
    "pickup": (5.2, 1.92, 1.8), "van": (5.3, 2.0, 2.2), "truck": (7.6, 2.35, 3.1),
    "bus": (10.5, 2.5, 3.0),
}  # fmt: skip
"""Length, width, height in metres."""


@dataclass(frozen=True)
class Vehicle:
    """A vehicle at its place on the ground.

    Attributes:
        quads: corners (n, 4, 3), metres: x right, y ahead, z up from the ground below its middle.
            Seen from outside, they run in the order that makes the normal point outwards.
        colours: (n, 3), BGR.
        groups: (n,), one of WHEEL .. REAR.
        lamps: (n,), one of NO_LAMP .. INDICATOR.
        split: y of the plane between FRONT and REAR, metres.
        position: (x, y) on the ground, metres. yaw: the heading, radians. roll: the turn about its
            long axis, radians; pi is on the roof.
        lit: the lamps that are switched on.
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
        """The same vehicle at another place."""
        return replace(
            self,
            position=(float(position[0]), float(position[1])),
            yaw=float(yaw),
            roll=float(roll),
        )

    def rotation(self) -> Floats:
        """3 x 3, from the vehicle's axes to the ground's: first the roll, then the yaw."""
        sin, cos = np.sin(self.yaw), np.cos(self.yaw)
        yaw = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]])
        sin, cos = np.sin(self.roll), np.cos(self.roll)
        roll = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        return yaw @ roll

    def placed(self) -> Floats:
        """The quads in ground coordinates."""
        quads = self.quads @ self.rotation().T
        # A roll about the ground point below the middle takes parts below the ground: lift them.
        quads[..., 2] -= quads[..., 2].min()
        quads[..., 0] += self.position[0]
        quads[..., 1] += self.position[1]
        return quads

    def footprint(self) -> NDArray[np.float32]:
        """Corners (n, 2) of the convex area of ground below the vehicle."""
        return convex(self.placed()[..., :2].reshape(-1, 2))


def on_quad(quad: Floats, u: Floats | float, v: Floats | float) -> Floats:
    """Points on a quad (4, ...), bilinear: u runs from corner 0 to 1, v from corner 0 to 3."""
    a, b, c, d = quad
    near_edge = a * (1 - u) + b * u
    far_edge = d * (1 - u) + c * u
    return near_edge * (1 - v) + far_edge * v
