"""One frame: a place, its traffic, and the collisions with their boxes.

A seed gives the same pixels every time. Adding, removing or reordering a random draw changes every
frame, and with it the figures in the documents that were measured on the rendered sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dat_runtime.draw import Image
from dat_runtime.types import Box, Severity
from data.prep.rendering.aftermath import fire, marks, plume, scatter, smoke
from data.prep.rendering.camera import Camera
from data.prep.rendering.canvas import Canvas, Mask
from data.prep.rendering.collisions import Collision, collision
from data.prep.rendering.extents import (
    extent,
    hides,
    longer_side,
    unclipped_area,
    visible,
    with_margin,
)
from data.prep.rendering.foreground import occlude, stamp
from data.prep.rendering.painting import paint_all, shadows
from data.prep.rendering.places import Place
from data.prep.rendering.surroundings import clutter
from data.prep.rendering.traffic import parked, traffic
from data.prep.rendering.vehicles import Vehicle
from data.prep.rendering.weather import Conditions, finish

Spans = tuple[float, float]
"""Bounds of the longer side of a collision's box, in shares of the frame's side."""

ALONE: Spans = (0.34, 0.68)
ONE_OF_SEVERAL: Spans = (0.26, 0.45)

MOST_COLLISIONS = 7
"""The highest number of a collision whose pixels are counted; a frame has at most three. Vehicles
that go their way have the numbers above it."""

SMALLEST_VEHICLE = 0.06
"""Longer side of the smallest vehicle that is listed, as a share of the frame's side."""


class Wreck(NamedTuple):
    """A collision as the frame shows it.

    Attributes:
        box: of its vehicles' visible pixels and of the debris near them.
        overturned: one of its vehicles lies on its roof or side.
    """

    box: Box
    severity: Severity
    vehicles: int
    overturned: bool


@dataclass(frozen=True)
class Scene:
    """A frame and what is to be seen in it.

    Attributes:
        image: uint8 (size, size, 3), BGR.
        vehicles: boxes of the vehicles outside collisions that are large enough to be seen.
    """

    image: Image
    wrecks: tuple[Wreck, ...]
    vehicles: tuple[Box, ...]


def ordinary(rng: np.random.Generator, place: Place) -> Scene:
    """A frame without accidents, but with things that are easily mistaken for one.

    Such things are cars parked close together, queues, litter, pedestrians and exhaust.
    """
    cars: list[Vehicle] = []
    if rng.random() < 0.2:
        cars += parked(rng, place)
    density = 1 / rng.uniform(12, 50)
    most = int(rng.integers(1, 8))
    cars += traffic(rng, place, cars, density, most)
    canvas = _start(place)
    shadows(canvas, place.camera, place.weather, cars)
    clutter(canvas, place.camera, rng, place.layout)
    paint_all(canvas, place.camera, place.weather, cars, _numbers(cars))
    for car in cars:
        if rng.random() < 0.01:
            foot, height = plume(place.camera, np.array(car.position), 2.5)
            smoke(canvas, rng, foot, height, grey=205, density=0.4)
    return Scene(_finished(canvas, rng, place), (), _vehicles(canvas))


def accident(rng: np.random.Generator, place: Place, severities: Sequence[Severity]) -> Scene:
    """A frame with one collision for each severity, as many as there is room for.

    Raises:
        ValueError: the place shows no lane on which a collision fits.
    """
    for _ in range(40):
        collisions = _apart(rng, place, severities)
        if not collisions:
            continue
        canvas = _compose(rng, place, collisions)
        wrecks = []
        for number, shown in enumerate(collisions, 1):
            box = visible(canvas.owner, number)
            # Other vehicles and the foreground may hide a part, but not most of it.
            if box is not None and longer_side(box) >= 0.75 * ONE_OF_SEVERAL[0]:
                wrecks.append(_wreck(box, shown))
        if len(wrecks) == len(collisions):
            return Scene(_finished(canvas, rng, place), tuple(wrecks), _vehicles(canvas))
    raise ValueError(f"no room for a collision at this place: {place.camera}, {place.layout.kind}")


def _wreck(box: Box, shown: Collision) -> Wreck:
    overturned = any(vehicle.roll for vehicle in shown.vehicles)
    return Wreck(box, shown.severity, len(shown.vehicles), overturned)


def _numbers(cars: Sequence[Vehicle]) -> list[int]:
    """Owners of the pixels of vehicles outside collisions."""
    return [MOST_COLLISIONS + 1 + i for i in range(len(cars))]


def _vehicles(canvas: Canvas) -> tuple[Box, ...]:
    boxes = []
    for number in np.unique(canvas.owner[canvas.owner > MOST_COLLISIONS]):
        box = visible(canvas.owner, int(number))
        if box is not None and longer_side(box) >= SMALLEST_VEHICLE:
            boxes.append(box)
    return tuple(boxes)


def _apart(
    rng: np.random.Generator, place: Place, severities: Sequence[Severity]
) -> list[Collision]:
    """Collisions of the right size whose boxes do not meet; a severity without room has none."""
    spans = ALONE if len(severities) == 1 else ONE_OF_SEVERAL
    collisions: list[Collision] = []
    boxes: list[Box] = []
    for severity in severities:
        tries = 8 if collisions else 25
        for _ in range(tries):
            candidate = collision(rng, place, severity, spans)
            box = extent(place.camera, candidate)
            if _fits(place.camera, candidate, box, boxes, spans):
                collisions.append(candidate)
                boxes.append(box)
                break
    return collisions


def _fits(
    camera: Camera, candidate: Collision, box: Box, others: Sequence[Box], spans: Spans
) -> bool:
    """Whether a collision lies mostly in the frame, has the right size, and meets no other one."""
    if box.area <= 0.85 * unclipped_area(camera, candidate):
        return False
    if any(with_margin(box).iou(with_margin(other)) > 0 for other in others):
        return False
    low, high = spans
    return low <= longer_side(box) <= high


def _compose(rng: np.random.Generator, place: Place, collisions: Sequence[Collision]) -> Canvas:
    """The collisions, numbered from 1, among traffic that does not hide them."""
    camera = place.camera
    wrecks: list[Vehicle] = []
    owners: list[int] = []
    for number, shown in enumerate(collisions, 1):
        wrecks += shown.vehicles
        owners += [number] * len(shown.vehicles)
    density = 1 / rng.uniform(15, 50)
    most = int(rng.integers(1, 6))
    cars = traffic(rng, place, wrecks, density, most)
    for shown in collisions:
        box = extent(camera, shown)
        cars = [car for car in cars if not hides(camera, car, shown, box)]

    # From the ground upwards: what comes later hides what was there.
    canvas = _start(place)
    for shown in collisions:
        marks(canvas, camera, rng, shown)
    shadows(canvas, camera, place.weather, wrecks + cars)
    for number, shown in enumerate(collisions, 1):
        scatter(canvas, camera, shown.debris, number)
    paint_all(canvas, camera, place.weather, wrecks + cars, owners + _numbers(cars))
    for shown in collisions:
        _burn(canvas, rng, camera, shown)
    if rng.random() < 0.2:
        _occlude_a_little(canvas, rng, place.weather)
    return canvas


def _occlude_a_little(canvas: Canvas, rng: np.random.Generator, weather: Conditions) -> None:
    """Hide a part of the frame, unless a collision would lose more than a third of its pixels."""
    image, owner = canvas.image.copy(), canvas.owner.copy()
    occlude(canvas, rng, weather)
    before, after = _pixels(owner), _pixels(canvas.owner)
    if (after < 0.67 * before).any():
        canvas.image[:], canvas.owner[:] = image, owner


def _pixels(owner: Mask) -> NDArray[np.int64]:
    """How many pixels each collision shows."""
    return np.bincount(owner.ravel(), minlength=MOST_COLLISIONS + 1)[1 : MOST_COLLISIONS + 1]


def _burn(canvas: Canvas, rng: np.random.Generator, camera: Camera, burning: Collision) -> None:
    """A collision's smoke; dark and high, and flames under it, only if it is severe."""
    is_severe = burning.severity == "severe"
    grey, metres = (rng.uniform(25, 70), 6.0) if is_severe else (235.0, 4.5)
    foot, height = plume(camera, burning.middle, metres)
    smoke(canvas, rng, foot, height, grey, burning.smoke)
    if is_severe:
        foot, height = plume(camera, burning.middle, 2.2)
        fire(canvas, rng, foot, height)


def _start(place: Place) -> Canvas:
    """A canvas that shows the place without traffic."""
    canvas = Canvas.on(place.background.copy())
    canvas.lights.extend(place.street_lamps)
    return canvas


def _finished(canvas: Canvas, rng: np.random.Generator, place: Place) -> Image:
    """The frame as recorded, sometimes with the recorder's text."""
    if rng.random() < 0.4:
        stamp(canvas, rng)
    return finish(canvas, place.camera, rng, place.weather)
