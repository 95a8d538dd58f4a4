"""Ordinary traffic: vehicles in their lanes, queues, and rows of parked cars."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data.prep.rendering.bodies import COLOURS, build
from data.prep.rendering.camera import Camera, Floats, direction, heading
from data.prep.rendering.places import Place
from data.prep.rendering.roads import POINTS_PER_METRE
from data.prep.rendering.vehicles import HEADLAMP, REAR_LAMP, Vehicle

CARS = ("hatchback", "sedan", "suv", "pickup", "van")
SHARES = {
    "hatchback": 0.24, "sedan": 0.28, "suv": 0.2, "pickup": 0.08, "van": 0.09, "truck": 0.07,
    "bus": 0.04,
}  # fmt: skip
"""Every kind of vehicle, and how often it occurs."""

MOST_ON_ROAD = 24
"""The most vehicles that `traffic` places on the road, before it keeps some of them at random."""

Discs = tuple[Floats, float]
"""Circles along a vehicle: centres (n, 2) on the ground, and their radius; metres."""


def traffic(
    rng: np.random.Generator, place: Place, taken: Sequence[Vehicle], density: float, most: int
) -> list[Vehicle]:
    """At most `most` vehicles in their lanes, some in queues; none touches another or `taken`.

    Args:
        taken: vehicles that are there already. density: vehicles per metre of a lane without queue.
    """
    on_road: list[Vehicle] = []
    busy = [_discs(vehicle) for vehicle in taken]
    for lane in place.layout.lanes():
        queue = rng.random() < 0.12
        driven = rng.uniform(0, 30)  # metres from the lane's beginning
        steps = np.diff(lane, axis=0)
        end = len(lane) / POINTS_PER_METRE - 1
        while driven < end and len(on_road) < MOST_ON_ROAD:
            i = int(driven * POINTS_PER_METRE)
            vehicle = random_vehicle(rng)
            off_centre = rng.normal(0, 0.12, 2)
            yaw = heading(steps[i]) + rng.normal(0, 0.03)
            vehicle = vehicle.at(lane[i] + off_centre, yaw)
            gap = rng.uniform(1.2, 3.0) if queue else rng.exponential(1 / density) + 4
            driven += vehicle.length + gap
            if not in_view(place.camera, lane[i]) or _touches(vehicle, busy):
                continue
            lit = set()
            if place.weather.night:
                lit |= {HEADLAMP, REAR_LAMP}
            if queue and rng.random() < 0.6:
                lit.add(REAR_LAMP)  # brakes
            on_road.append(replace(vehicle, lit=tuple(sorted(lit))))
            busy.append(_discs(vehicle))
    shuffled = rng.permutation(len(on_road))
    return [on_road[i] for i in shuffled[:most]]


def parked(rng: np.random.Generator, place: Place) -> list[Vehicle]:
    """A row of cars parked close together beside the road, along it or at a slant."""
    road = place.layout.roads[0]
    slant = rng.choice([0.0, 0.6, 1.2])
    if slant == 0:  # along the road a car takes its length
        beside, spacing = 1.2, 5.4
    else:  # at a slant a car takes its width
        beside, spacing = 2.6, 2.3 / np.sin(slant)
    side = rng.choice([-1, 1])
    line = road.offset(side * (road.width / 2 + beside))

    in_focus = int(np.argmin(np.linalg.norm(line - place.camera.focus, axis=1)))
    start = in_focus + int(rng.integers(-30, 10))
    spacing += rng.uniform(0.0, 0.5)
    row: list[Vehicle] = []
    for n in range(int(rng.integers(2, 6))):
        i = start + int(n * spacing * POINTS_PER_METRE)
        if not 0 <= i < len(line) - 1:
            break
        yaw = heading(line[i + 1] - line[i]) + slant
        kind = str(rng.choice(CARS[:3]))
        car = build(kind, random_colour(rng))
        row.append(car.at(line[i], yaw + rng.normal(0, 0.03)))
    return row


def random_vehicle(rng: np.random.Generator) -> Vehicle:
    """A vehicle of any kind, at the origin."""
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    return build(kind, random_colour(rng))


def random_car(rng: np.random.Generator) -> Vehicle:
    """A vehicle other than a truck or bus, at the origin."""
    kind = str(rng.choice(CARS))
    return build(kind, random_colour(rng))


def random_colour(rng: np.random.Generator) -> tuple[float, ...]:
    """One of the paints, a little lighter or darker; BGR."""
    paint = COLOURS[rng.integers(len(COLOURS))]
    return tuple(np.clip(np.array(paint) * rng.uniform(0.85, 1.15), 0, 255))


def in_view(camera: Camera, point: Floats) -> bool:
    """Whether a vehicle at a ground point (x, y) may be seen: in or close to the frame."""
    if camera.depth_on_ground(point) < 3 or np.hypot(point[0], point[1]) > 95:
        return False
    x, y = camera.project_ground(np.asarray(point)) / camera.size
    return bool(-0.3 < x < 1.3 and y < 1.5)


def _discs(vehicle: Vehicle) -> Discs:
    """Discs along a vehicle's length, a little wider than it; its corners stick out of them."""
    reach = max(0.0, vehicle.length - vehicle.width) / 2
    steps = np.linspace(-reach, reach, max(2, int(vehicle.length)))
    centres = np.array(vehicle.position) + steps[:, None] * direction(vehicle.yaw)
    return centres, vehicle.width * 0.58


def _touches(vehicle: Vehicle, others: Sequence[Discs]) -> bool:
    """Whether a vehicle comes within 10 cm of one of the others."""
    centres, radius = _discs(vehicle)
    for other_centres, other_radius in others:
        distances = np.linalg.norm(centres[:, None] - other_centres[None], axis=2)
        if distances.min() < radius + other_radius + 0.1:
            return True
    return False
