"""Ordinary traffic, collisions, and the frame that shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dat_runtime.types import Severity
from data.prep.rendering import vehicles
from data.prep.rendering.bodies import COLOURS, build
from data.prep.rendering.camera import Camera, Floats
from data.prep.rendering.places import Place
from data.prep.rendering.vehicles import Vehicle, crush

CARS = ("hatchback", "sedan", "suv", "pickup", "van")
EVERY_KIND = (*CARS, "truck", "bus")
LITTER = ((25, 25, 25), (60, 60, 62), (225, 230, 225), (215, 220, 215), (160, 170, 170))
TYPICAL_SPAN = 6.5
"""Metres that a collision takes up."""

SHARES = (0.24, 0.28, 0.2, 0.08, 0.09, 0.07, 0.04)


@dataclass(frozen=True)
class Debris:
    """Pieces on the ground: corners (n, 4, 3) in metres, colours (n, 3) BGR.

    `near` (n,) tells which lie close enough to belong to the collision's box.
    """

    corners: Floats
    colours: Floats
    near: NDArray[np.bool_]


@dataclass(frozen=True)
class Collision:
    """Vehicles that hit one another, what they lost, and what burns.

    Attributes:
        skids: ground lines (n, 2), metres. smoke: 0 none .. 1 thick and dark. fire: whether seen.
    """

    severity: Severity
    vehicles: tuple[Vehicle, ...]
    debris: Debris
    skids: tuple[Floats, ...]
    smoke: float
    fire: bool
    middle: Floats


def traffic(
    rng: np.random.Generator, place: Place, taken: Sequence[Vehicle], density: float, most: int = 8
) -> list[Vehicle]:
    """At most `most` vehicles in their lanes, some queueing, none touching another or `taken`."""
    found: list[Vehicle] = []
    busy = [_discs(v) for v in taken]
    for lane in place.layout.lanes():
        queue = rng.random() < 0.12
        s = rng.uniform(0, 30)
        steps = np.diff(lane, axis=0)
        while s < len(lane) / 2 - 1 and len(found) < 24:
            i = int(s * 2)
            vehicle = _random_vehicle(rng)
            spread = rng.normal(0, 0.12, 2)
            yaw = np.arctan2(*steps[i]) + rng.normal(0, 0.03)
            vehicle = vehicle.at(lane[i] + spread, yaw)
            s += vehicle.length + (
                rng.uniform(1.2, 3.0) if queue else rng.exponential(1 / density) + 4
            )
            if not _in_view(place.camera, lane[i]) or _touches(vehicle, busy):
                continue
            lit = ((1, 2) if place.weather.night else ()) + (
                (2,) if queue and rng.random() < 0.6 else ()
            )
            found.append(replace(vehicle, lit=tuple(set(lit))))
            busy.append(_discs(vehicle))
    return [found[i] for i in rng.permutation(len(found))[:most]]


def parked(rng: np.random.Generator, place: Place, taken: Sequence[Vehicle]) -> list[Vehicle]:
    """A row of cars parked close together beside the road, along it or at a slant."""
    road = place.layout.roads[0]
    slant = rng.choice([0.0, 0.6, 1.2])
    line = road.offset(rng.choice([-1, 1]) * (road.width / 2 + (1.2 if slant == 0 else 2.6)))
    near = int(np.argmin(np.linalg.norm(line - place.camera.focus, axis=1)))
    start = near + int(rng.integers(-30, 10))
    step = (5.4 if slant == 0 else 2.3 / np.sin(slant)) + rng.uniform(0.0, 0.5)
    busy = [_discs(v) for v in taken]
    row: list[Vehicle] = []
    for n in range(int(rng.integers(2, 6))):
        i = start + int(n * step * 2)
        if not 0 <= i < len(line) - 1:
            break
        yaw = np.arctan2(*(line[i + 1] - line[i])) + slant
        kind = str(rng.choice(CARS[:3]))
        car = build(kind, _colour(rng)).at(line[i], yaw + rng.normal(0, 0.03))
        if not _touches(car, busy):
            row.append(car)
    return row


def collision(
    rng: np.random.Generator, place: Place, severity: Severity, share: tuple[float, float]
) -> Collision:
    """A collision on a lane in view, where it is likely to span a `share` of the frame's side."""
    lanes = place.layout.lanes()
    for _ in range(80):
        lane = lanes[rng.integers(len(lanes))]
        i = int(rng.integers(1, len(lane) - 1))
        x, y = place.camera.ground(lane[i]) / place.camera.size
        if not (0.2 < x < 0.8 and 0.28 < y < 0.8 and _in_view(place.camera, lane[i])):
            continue
        depth = float(place.camera.depth(np.array([*lane[i], 0.0])))
        if share[0] < TYPICAL_SPAN * place.camera.focal / depth / place.camera.size < share[1]:
            break
    else:
        lane, i = lanes[0], int(np.argmin(np.linalg.norm(lanes[0] - place.camera.focus, axis=1)))
    yaw = float(np.arctan2(*(lane[min(i + 1, len(lane) - 1)] - lane[i - 1])))
    middle = np.asarray(lane[i])
    return (moderate if severity == "moderate" else severe)(rng, middle, yaw)


def moderate(rng: np.random.Generator, middle: Floats, yaw: float) -> Collision:
    """Two vehicles that touch: rear-end, side impact, or a slanting scrape. Both upright."""
    first = build(str(rng.choice(EVERY_KIND, p=SHARES)), _colour(rng)).at(
        middle, yaw + rng.normal(0, 0.15)
    )
    second = build(str(rng.choice(CARS)), _colour(rng))
    style = rng.choice(["rear", "side", "slant"], p=[0.12, 0.44, 0.44])
    turn = {
        "rear": rng.normal(0, 0.2),
        "side": rng.uniform(1.1, 2.0),
        "slant": rng.uniform(0.5, 1.1),
    }
    turned = yaw + rng.choice([-1, 1]) * turn[str(style)]
    bearing = turned + (rng.normal(0, 0.12) if style == "rear" else rng.normal(0, 0.3))
    first, second = _meet(rng, first, second, turned, bearing, depth=rng.uniform(0.4, 0.8))
    pair = tuple(replace(v, lit=(3,)) for v in (first, second))
    debris = _debris(
        rng, _contact(first, second), pair, count=int(rng.integers(30, 45)), spread=1.9
    )
    skids = _skids(rng, second) if rng.random() < 0.75 else ()
    smoke = rng.uniform(0.4, 0.6) if rng.random() < 0.65 else 0.0
    return Collision("moderate", pair, debris, skids, smoke, False, _contact(first, second))


def severe(rng: np.random.Generator, middle: Floats, yaw: float) -> Collision:
    """A vehicle on its roof or side, or two that are wrecked; wide debris, often smoke or fire."""
    overturned = rng.random() < 0.75
    alone = overturned and rng.random() < 0.3
    first = build(str(rng.choice(CARS if rng.random() < 0.85 else ("truck",))), _colour(rng))
    first = crush(first, rng, _hit(rng, first), rng.uniform(0.4, 0.9))
    roll = 0.0
    if overturned:
        roll = (
            np.pi + rng.normal(0, 0.15)
            if rng.random() < 0.6
            else rng.choice([-1, 1]) * rng.uniform(1.4, 1.8)
        )
    first = first.at(middle, yaw + rng.uniform(-1.5, 1.5), roll)
    wrecks = (first,)
    if not alone:
        second = build(str(rng.choice(CARS)), _colour(rng))
        turned = yaw + rng.uniform(-1.2, 1.2)
        depth = rng.uniform(0.4, 0.8) if overturned else rng.uniform(0.9, 1.4)
        wrecks = _meet(rng, first, second, turned, turned + rng.normal(0, 0.4), depth)
    burning = rng.random() < (0.55 if overturned else 0.9)
    smoke = rng.uniform(0.5, 0.95) if burning or rng.random() < 0.6 else 0.0
    debris = _debris(rng, middle, wrecks, count=int(rng.integers(35, 70)), spread=2.4)
    skids = _skids(rng, first) if rng.random() < 0.5 else ()
    centre = np.mean([v.position for v in wrecks], axis=0)
    return Collision("severe", wrecks, debris, skids, smoke, bool(burning), centre)


def _meet(
    rng: np.random.Generator,
    first: Vehicle,
    second: Vehicle,
    yaw: float,
    bearing: float,
    depth: float,
) -> tuple[Vehicle, Vehicle]:
    """`second` driven along `bearing` into `first` until they touch, both dented there."""
    aim = np.array(first.position) + rng.uniform(-0.25, 0.25) * first.length * np.array(
        [np.sin(first.yaw), np.cos(first.yaw)]
    )
    way = np.array([np.sin(bearing), np.cos(bearing)])
    near, far = 0.0, 14.0
    outline, moving = first.footprint(), second.at((0, 0), yaw).footprint()
    for _ in range(12):
        gap = (near + far) / 2
        shifted = (moving + aim - gap * way).astype(np.float32)
        meets = cv2.intersectConvexConvex(outline, shifted)[0]
        near, far = (gap, far) if meets > 0.05 else (near, gap)
    second = second.at(aim - (near - 0.15) * way, yaw)
    contact = _contact(first, second)
    if not first.roll:
        first = crush(first, rng, _local(first, contact), depth)
    return first, crush(second, rng, _local(second, contact), depth)


def _contact(first: Vehicle, second: Vehicle) -> Floats:
    """The middle of the ground that both stand on."""
    area, shared = cv2.intersectConvexConvex(first.footprint(), second.footprint())
    if shared is None or area <= 0:
        return (np.array(first.position) + second.position) / 2
    return np.asarray(shared[:, 0].mean(axis=0), float)


def _local(vehicle: Vehicle, point: Floats) -> tuple[float, float]:
    x, y, _ = vehicle.rotation().T @ np.array([*(point - vehicle.position), 0.0])
    return float(x), float(y)


def _hit(rng: np.random.Generator, vehicle: Vehicle) -> tuple[float, float]:
    angle = rng.uniform(0, 2 * np.pi)
    return float(np.cos(angle) * vehicle.width / 2), float(np.sin(angle) * vehicle.length / 2)


def _debris(
    rng: np.random.Generator, middle: Floats, of: Sequence[Vehicle], count: int, spread: float
) -> Debris:
    """Glass, dark parts and parts in the vehicles' colours; every sixth piece is a large one."""
    bodies = [v.colours[np.argmax(v.groups == vehicles.BODY)] for v in of]
    colours = np.array([*LITTER, *bodies], float)
    offsets = rng.normal(0, spread, (count, 1, 2))
    long = rng.uniform(0.15, 0.42, count)
    long[::6] = rng.uniform(0.4, 1.0, len(long[::6])) * min(1, spread / 2)
    angle, wide = rng.uniform(0, np.pi, count), long * rng.uniform(0.3, 0.8, count)
    a = np.stack([np.cos(angle), np.sin(angle)], axis=1) * long[:, None] / 2
    b = np.stack([-np.sin(angle), np.cos(angle)], axis=1) * wide[:, None] / 2
    flat = middle + offsets + np.stack([-a - b, a - b, a + b, b - a], axis=1)
    lift = rng.uniform(0, 0.25, (count, 4, 1)) * np.minimum(1, 2 * long)[:, None, None]
    return Debris(
        corners=np.concatenate([flat, lift], axis=2),
        colours=colours[rng.integers(len(colours), size=count)],
        near=np.hypot(offsets[:, 0, 0], offsets[:, 0, 1]) < 0.7 * spread,
    )


def _skids(rng: np.random.Generator, vehicle: Vehicle) -> tuple[Floats, ...]:
    """Two tyre marks that lead to a vehicle from behind, a little bent."""
    s = np.linspace(0, rng.uniform(4, 10), 12)
    angle = vehicle.yaw + rng.normal(0, 0.04) * s
    back = np.array(vehicle.position) - np.stack([np.sin(angle) * s, np.cos(angle) * s], axis=1)
    side = np.array([np.cos(vehicle.yaw), -np.sin(vehicle.yaw)]) * vehicle.width * 0.4
    return back - side, back + side


def _random_vehicle(rng: np.random.Generator) -> Vehicle:
    return build(str(rng.choice(EVERY_KIND, p=SHARES)), _colour(rng))


def _colour(rng: np.random.Generator) -> tuple[float, ...]:
    shade = COLOURS[rng.integers(len(COLOURS))]
    return tuple(np.clip(np.array(shade) * rng.uniform(0.85, 1.15), 0, 255))


def _in_view(camera: Camera, point: Floats) -> bool:
    if camera.depth(np.array([*point, 0.0])) < 3 or np.hypot(*point) > 95:
        return False
    x, y = camera.ground(np.asarray(point)) / camera.size
    return bool(-0.3 < x < 1.3 and y < 1.5)


def _discs(vehicle: Vehicle) -> tuple[Floats, float]:
    """Discs along a vehicle that cover it: centres (n, 2) and their radius."""
    along = np.array([np.sin(vehicle.yaw), np.cos(vehicle.yaw)])
    reach = max(0.0, vehicle.length - vehicle.width) / 2
    steps = np.linspace(-reach, reach, max(2, int(vehicle.length)))
    return np.array(vehicle.position) + steps[:, None] * along, vehicle.width * 0.58


def _touches(vehicle: Vehicle, others: Sequence[tuple[Floats, float]]) -> bool:
    centres, radius = _discs(vehicle)
    for spots, other in others:
        gaps = np.linalg.norm(centres[:, None] - spots[None], axis=2)
        if gaps.min() < radius + other + 0.1:
            return True
    return False
