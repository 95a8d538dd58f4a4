"""What each unit of a view is told that it shows."""

import numpy as np

from dat_runtime.types import Box, Size
from data.prep.rendering.frames import Wreck
from data.prep.rendering.primer_scenes import COLOURS, Mark, View
from data.prep.rendering.units import BIN, NOT_THERE, targets

SIDE = 84  # three units
FRAME = Size(SIDE, SIDE)


def view(
    wrecks: tuple[Wreck, ...] = (), vehicles: tuple[Box, ...] = (), marks: tuple[Mark, ...] = ()
) -> View:
    return View(np.zeros((SIDE, SIDE, 3), np.uint8), wrecks, vehicles, marks)


def test_a_unit_is_told_of_the_collision_that_it_shows() -> None:
    wreck = Wreck(Box(28, 30, 84, 50, FRAME), "severe", 2, True)
    told = targets(view(wrecks=(wreck,)))
    presence = told.presence.reshape(3, 3, 3)
    assert presence[..., 0].tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert not presence[..., 1:].any()
    corners = told.corners.reshape(3, 3, 3, 4)
    assert corners[1, 2, 0].tolist() == [28 // BIN, 30 // BIN, SIDE // BIN - 1, 50 // BIN]
    assert (corners[0] == NOT_THERE).all()
    assert told.traits.reshape(3, 3, 4)[1, 1].tolist() == [1, 1, 0, NOT_THERE]


def test_of_two_vehicles_the_smaller_one_is_told_and_a_small_one_in_its_middle() -> None:
    large, small = Box(0, 0, 84, 84, FRAME), Box(30, 30, 40, 40, FRAME)
    told = targets(view(vehicles=(small, large)))
    corners = told.corners.reshape(3, 3, 3, 4)
    assert corners[1, 1, 1].tolist() == [7, 7, 10, 10]
    assert corners[0, 0, 1].tolist() == [0, 0, 20, 20]


def test_a_drawn_box_is_told_along_its_lines_with_its_colour() -> None:
    told = targets(view(marks=(Mark("red", Box(2, 2, 82, 82, FRAME)),)))
    lines = told.presence.reshape(3, 3, 3)[..., 2]
    assert lines.tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    colours = told.traits.reshape(3, 3, 4)[..., 3]
    assert set(colours[lines > 0].tolist()) == {list(COLOURS).index("red")}
