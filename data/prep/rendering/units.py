"""What each unit of a picture shows: what a vision tower is taught by itself.

A unit is 28 x 28 pixels, one token of the language model.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dat_runtime.draw import PATCH
from dat_runtime.types import Box
from data.prep.rendering.primer_scenes import COLOURS, View

THINGS = ("wrecks", "vehicles", "marks")
BIN = 4
"""Pixels: corners are learnt as classes, so that digits can be read off them."""
TRAITS = (("severe", 2), ("overturned", 2), ("alone", 2), ("colour", 4))
"""What a unit of a collision (the last: of a drawn box) is like, and how many classes that has."""
NOT_THERE = -1
"""Class of a unit that shows no such thing: it takes no part in the loss."""


class Targets(NamedTuple):
    """What the units of one view show, rows of units after one another.

    Attributes:
        presence: bool (units, 3). corners: int16 (units, 3, 4), bins of x1, y1, x2, y2.
        traits: int8 (units, 4).
    """

    presence: NDArray[np.bool_]
    corners: NDArray[np.int16]
    traits: NDArray[np.int8]


def targets(view: View) -> Targets:
    """Which unit shows what; where things overlap, the smaller one."""
    side = view.image.shape[0] // PATCH
    presence = np.zeros((side, side, len(THINGS)), np.bool_)
    corners = np.full((side, side, len(THINGS), 4), NOT_THERE, np.int16)
    traits = np.full((side, side, len(TRAITS)), NOT_THERE, np.int8)

    def put(rows: Any, columns: Any, thing: str, box: Box) -> None:
        which = THINGS.index(thing)
        presence[rows, columns, which] = True
        corners[rows, columns, which] = _bins(box)

    for box in sorted(view.vehicles, key=lambda box: -box.area):
        put(*_covered(box, side), "vehicles", box)
    for wreck in sorted(view.wrecks, key=lambda wreck: -wreck.box.area):
        rows, columns = _covered(wreck.box, side)
        put(rows, columns, "wrecks", wreck.box)
        seen = (wreck.severity == "severe", wreck.overturned, wreck.vehicles == 1)
        traits[rows, columns, :3] = seen
    for mark in view.marks:
        rows, columns = _framing(mark.box, side)
        put(rows, columns, "marks", mark.box)
        traits[rows, columns, 3] = list(COLOURS).index(mark.colour)
    units = side * side
    return Targets(
        presence.reshape(units, -1), corners.reshape(units, -1, 4), traits.reshape(units, -1)
    )


def _bins(box: Box) -> NDArray[np.int64]:
    most = box.frame.width // BIN - 1
    return np.clip(np.array(box[:4]) / BIN, 0, most).astype(np.int64)


def _covered(box: Box, side: int) -> tuple[slice, slice]:
    """The units of which the box covers about half, at least that of its middle."""

    def run(low: float, high: float) -> slice:
        first, end = (math.floor(value / PATCH + 0.5) for value in (low, high))
        if end <= first:
            first = min(side - 1, int((low + high) / 2 / PATCH))
            end = first + 1
        return slice(max(0, first), min(side, end))

    return run(box.y1, box.y2), run(box.x1, box.x2)


def _framing(box: Box, side: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The units through which the lines of a drawn box go."""
    x1, y1, x2, y2 = box.pixels()
    inside = np.zeros((side, side), bool)
    left, top, right, bottom = x1 // PATCH, y1 // PATCH, (x2 - 1) // PATCH, (y2 - 1) // PATCH
    inside[[top, bottom], left : right + 1] = True
    inside[top : bottom + 1, [left, right]] = True
    rows, columns = np.nonzero(inside)
    return rows, columns
