"""What the smoke job's base model learns to see: rendered scenes, views of them, drawn boxes.

Scenes are those of `frames`, at places of their own. A view is what is asked about: a part of a
scene, mirrored or not, at the model's size, with or without boxes drawn on it as a gate draws them,
right and wrong ones.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from dat_runtime.draw import Image, draw_box, resize
from dat_runtime.types import SEVERITIES, Box, Size
from data.prep.rendering import frames, places
from data.prep.rendering.frames import Scene, Wreck

STREAM = 31
"""Makes the seeds differ from those of the rendered sets: no place of a primer is in them."""

PLACE_STREAM = 7

SCENES_PER_PLACE = 4

WRECKS = {0: 0.42, 1: 0.4, 2: 0.13, 3: 0.05}
"""Numbers of collisions in a scene, and how often each occurs."""

RENDERED_SIDE = 336
"""Side of a scene as it is rendered, pixels."""

KEPT = 0.6
"""Share of a box that has to lie in a view for it to be seen there."""

COLOURS = {
    "orange": (0, 165, 255), "red": (0, 0, 255), "green": (0, 200, 0), "blue": (255, 60, 0),
}  # fmt: skip
"""BGR; orange and red are those of the boxed images (`dat_runtime.draw`)."""


class Mark(NamedTuple):
    """A drawn box, whole pixels of the view, right and bottom exclusive."""

    colour: str
    box: Box


class View(NamedTuple):
    """A picture to ask about, and what is in it.

    Attributes:
        image: uint8 (side, side, 3), BGR.
    """

    image: Image
    wrecks: tuple[Wreck, ...]
    vehicles: tuple[Box, ...]
    marks: tuple[Mark, ...]


def scenes(seed: int, first: int, count: int) -> Iterator[Scene]:
    """Scenes `first` to `first + count` of an endless row; `SCENES_PER_PLACE` show one place."""
    for i in range(first, first + count):
        spot = i // SCENES_PER_PLACE
        if i == first or i % SCENES_PER_PLACE == 0:
            rng = np.random.default_rng([STREAM, seed, spot, PLACE_STREAM])
            place = places.place(rng, RENDERED_SIDE)
        rng = np.random.default_rng([STREAM, seed, spot, i])
        many = int(rng.choice(list(WRECKS), p=list(WRECKS.values())))
        severities = [SEVERITIES[k] for k in rng.integers(0, len(SEVERITIES), many)]
        try:
            yield frames.accident(rng, place, severities) if many else frames.ordinary(rng, place)
        except ValueError:  # no room for a collision at this place
            yield frames.ordinary(rng, place)


def view(rng: np.random.Generator, scene: Scene, side: int, marked: float = 0.5) -> View:
    """A view of a scene.

    Args:
        side: of the view, pixels.
        marked: share of the views on which boxes are drawn.
    """
    whole = scene.image.shape[0]
    part = whole if rng.random() < 0.4 else int(rng.uniform(0.75, 1.0) * whole)
    x, y = (int(k) for k in rng.integers(0, whole - part + 1, 2))
    if any(_seen(wreck.box, x, y, part, side) is None for wreck in scene.wrecks):
        x, y, part = 0, 0, whole  # its smoke would still be there, and called nothing
    image = resize(np.ascontiguousarray(scene.image[y : y + part, x : x + part]), Size(side, side))
    seen = [(wreck, _seen(wreck.box, x, y, part, side)) for wreck in scene.wrecks]
    wrecks = [wreck._replace(box=box) for wreck, box in seen if box is not None]
    cars = [b for car in scene.vehicles if (b := _seen(car, x, y, part, side)) is not None]
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
        wrecks = [wreck._replace(box=_mirrored(wreck.box)) for wreck in wrecks]
        cars = [_mirrored(box) for box in cars]
    image = np.asarray(
        cv2.convertScaleAbs(image, alpha=rng.uniform(0.8, 1.2), beta=rng.uniform(-12, 12)), np.uint8
    )
    marks: list[Mark] = []
    if rng.random() < marked:
        marks = _marks(rng, wrecks, cars, side)
        for mark in marks:
            draw_box(image, mark.box.pixels(), COLOURS[mark.colour])
    return View(image, tuple(wrecks), tuple(cars), tuple(marks))


def _seen(box: Box, x: int, y: int, part: int, side: int) -> Box | None:
    """A scene's box in the view of `part` pixels from (x, y); `None` if too little is in it."""
    scale, frame = side / part, Size(side, side)
    shifted = Box(
        (box.x1 - x) * scale,
        (box.y1 - y) * scale,
        (box.x2 - x) * scale,
        (box.y2 - y) * scale,
        frame,
    )
    clipped = shifted.clipped()
    return clipped if clipped.area >= KEPT * shifted.area else None


def _mirrored(box: Box) -> Box:
    return box._replace(x1=box.frame.width - box.x2, x2=box.frame.width - box.x1)


def _marks(
    rng: np.random.Generator, wrecks: Sequence[Wreck], cars: Sequence[Box], side: int
) -> list[Mark]:
    """Boxes as a poor gate finds them: most collisions, some traffic, some nothing at all."""
    found = [about(rng, wreck.box) for wreck in wrecks if rng.random() < 0.85]
    if cars and rng.random() < 0.25:
        found.append(about(rng, cars[rng.integers(len(cars))]))
    if rng.random() < 0.25:
        width, height = rng.integers(int(0.12 * side), int(0.5 * side), 2)
        x, y = rng.integers(0, side - width + 1), rng.integers(0, side - height + 1)
        found.append(Box(x, y, x + width, y + height, Size(side, side)))
    names, shares = list(COLOURS), (0.4, 0.4, 0.1, 0.1)
    marks = []
    for box in found:
        x1, y1, x2, y2 = box.pixels()
        if x2 - x1 >= 8 and y2 - y1 >= 8:
            colour = str(rng.choice(names, p=shares))
            marks.append(Mark(colour, Box(x1, y1, x2, y2, box.frame)))
    return marks[:4]


def about(rng: np.random.Generator, box: Box) -> Box:
    """The box as a gate finds it: each side off by some percent of its length."""
    dx, dy = 0.06 * (box.x2 - box.x1), 0.06 * (box.y2 - box.y1)
    x1, x2 = box.x1 + rng.normal(0, dx), box.x2 + rng.normal(0, dx)
    y1, y2 = box.y1 + rng.normal(0, dy), box.y2 + rng.normal(0, dy)
    return Box(x1, y1, x2, y2, box.frame).clipped()
