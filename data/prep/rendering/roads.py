"""Roads and their lanes as lines on the ground."""

from dataclasses import dataclass

import numpy as np

from data.prep.rendering.camera import Floats

POINTS_PER_METRE = 2
"""Lines have a point every half metre."""

STEP = 1 / POINTS_PER_METRE
"""Metres from one point of a line to the next."""

REACH = 80.0
"""Metres from a road's middle to either end."""

SHARES = {"straight": 0.3, "curve": 0.2, "intersection": 0.32, "ramp": 0.18}
"""Kinds of road network, and how often a place has each."""


@dataclass(frozen=True)
class Road:
    """Lanes along a centre line (n, 2), in metres.

    Attributes:
        ahead, back: numbers of lanes that run along the line, and against it.
        lane_width: metres.
    """

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
        to_the_right = np.stack([along[:, 1], -along[:, 0]], axis=1)
        return self.centre + distance * to_the_right

    def lanes(self) -> list[Floats]:
        """Lane centre lines, each in its driving direction (traffic keeps to the right)."""
        left_edge = -self.width / 2
        lines = []
        for i in range(self.ahead + self.back):
            line = self.offset(left_edge + (i + 0.5) * self.lane_width)
            if i < self.back:
                line = line[::-1]
            lines.append(line)
        return lines


def random_roads(rng: np.random.Generator, kind: str, focus: Floats) -> tuple[Road, ...]:
    """The roads of a network. The main road comes first and runs close to `focus` (x, y)."""
    lane_width = rng.uniform(3.1, 3.7)
    heading = rng.uniform(-1.3, 1.3)
    middle = focus + rng.uniform(-3, 3, 2)
    ahead, back = int(rng.integers(1, 4)), int(rng.integers(0, 3))
    if ahead + back < 2:
        back = 1
    bend = 0.0
    if kind == "curve":
        bend = rng.choice([-1, 1]) / rng.uniform(28, 70)
    main = Road(_arc(middle, heading, bend), ahead, back, lane_width)
    if kind == "intersection":
        turn = heading + rng.choice([-1, 1]) * rng.uniform(1.2, 1.9)
        lanes = int(rng.integers(1, 3))
        return main, Road(_arc(middle, turn, 0.0), lanes, lanes, lane_width)
    if kind == "ramp":
        # One lane that leaves the main road's edge 15 m before the road's middle, and turns away.
        side = rng.choice([-1, 1])
        edge = main.offset(side * (main.width / 2 - 0.5))
        start = edge[len(main.centre) // 2 - 15 * POINTS_PER_METRE]
        ramp = _arc(start, heading, side / rng.uniform(25, 45), behind=0.0)
        return main, Road(ramp, 1, 0, lane_width)
    return (main,)


def _arc(middle: Floats, heading: float, bend: float, behind: float = REACH) -> Floats:
    """A line through `middle`, from `behind` metres before it to REACH metres beyond.

    Args:
        heading: at `middle`, radians. bend: the turn to the right per metre, radians: 1 / radius.
    """
    metres = np.arange(-behind, REACH, STEP)
    # Turned by at most 2 radians to either side, then straight on.
    angle = np.clip(heading + bend * metres, heading - 2.0, heading + 2.0)
    steps = np.stack([np.sin(angle), np.cos(angle)], axis=1) * STEP
    line = np.cumsum(steps, axis=0)
    at_middle = np.argmin(np.abs(metres))
    return line - line[at_middle] + middle
