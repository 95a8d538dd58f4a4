"""Collisions: which vehicles hit one another, and how; their debris, skid marks, smoke and fire."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dat_runtime.types import Severity
from data.prep.rendering.bodies import build
from data.prep.rendering.camera import Floats, direction, heading
from data.prep.rendering.damage import crush
from data.prep.rendering.places import Place
from data.prep.rendering.traffic import (
    CARS,
    in_view,
    random_car,
    random_colour,
    random_vehicle,
)
from data.prep.rendering.vehicles import BODY, INDICATOR, Vehicle

FRAGMENTS = ((25, 25, 25), (60, 60, 62), (225, 230, 225), (215, 220, 215), (160, 170, 170))
"""BGR of what breaks off: two dark colours for parts, the light ones for glass."""

TYPICAL_SPAN = 6.5
"""Metres that a collision takes up, to judge how large it will look."""

FARTHEST_APART = 14.0
"""Metres between the aim and the other vehicle at which no two vehicles touch: the longest vehicle
is a bus of 10.5 m."""


@dataclass(frozen=True)
class Debris:
    """Pieces on the ground: corners (n, 4, 3) in metres, colours (n, 3) BGR.

    `near` (n,) marks those close enough to belong to the collision's box.
    """

    corners: Floats
    colours: Floats
    near: NDArray[np.bool_]


@dataclass(frozen=True)
class Collision:
    """Vehicles that hit one another, and what goes with it.

    Attributes:
        skids: ground lines (n, 2), metres. smoke: how thick, up to 1.
        middle: (x, y) on the ground, metres.
    """

    severity: Severity
    vehicles: tuple[Vehicle, ...]
    debris: Debris
    skids: tuple[Floats, ...]
    smoke: float
    middle: Floats


def collision(
    rng: np.random.Generator, place: Place, severity: Severity, share: tuple[float, float]
) -> Collision:
    """A collision on a lane in view, where it is likely to span a `share` of the frame's side."""
    lane, i = _point_on_lane(rng, place, share)
    before, after = lane[i - 1], lane[min(i + 1, len(lane) - 1)]
    yaw = heading(after - before)
    if severity == "moderate":
        return moderate(rng, lane[i], yaw)
    return severe(rng, lane[i], yaw)


def _point_on_lane(
    rng: np.random.Generator, place: Place, share: tuple[float, float]
) -> tuple[Floats, int]:
    """A lane and the index of a point on it where a collision would have the right size."""
    camera = place.camera
    lanes = place.layout.lanes()
    for _ in range(80):
        lane = lanes[rng.integers(len(lanes))]
        i = int(rng.integers(1, len(lane) - 1))
        x, y = camera.project_ground(lane[i]) / camera.size
        is_central = 0.2 < x < 0.8 and 0.28 < y < 0.8
        if not (is_central and in_view(camera, lane[i])):
            continue
        span = TYPICAL_SPAN * camera.focal / camera.depth_on_ground(lane[i]) / camera.size
        if share[0] < span < share[1]:
            return lane, i
    # No draw fitted: the point where the first lane comes closest to the middle of the frame.
    lane = lanes[0]
    return lane, int(np.argmin(np.linalg.norm(lane - camera.focus, axis=1)))


def moderate(rng: np.random.Generator, middle: Floats, yaw: float) -> Collision:
    """Two vehicles that touch: rear-end, side impact, or a slanting scrape. Both upright."""
    first = random_vehicle(rng).at(middle, yaw + rng.normal(0, 0.15))
    second = random_car(rng)
    style = str(rng.choice(["rear", "side", "slant"], p=[0.12, 0.44, 0.44]))
    # Radians between the two. All three are drawn, so that later draws do not depend on the style.
    turns = {
        "rear": rng.normal(0, 0.2),
        "side": rng.uniform(1.1, 2.0),
        "slant": rng.uniform(0.5, 1.1),
    }
    second_yaw = yaw + rng.choice([-1, 1]) * turns[style]
    # Radians between where the second one moves and where it points: few in a rear-end collision.
    sideways = 0.12 if style == "rear" else 0.3
    bearing = second_yaw + rng.normal(0, sideways)
    dent = rng.uniform(0.4, 0.8)
    first, second = _meet(rng, first, second, second_yaw, bearing, dent)

    contact = _contact(first, second)
    hazards_on = (replace(first, lit=(INDICATOR,)), replace(second, lit=(INDICATOR,)))
    debris = _debris(rng, contact, hazards_on, count=int(rng.integers(45, 70)), spread=2.2)
    skids: tuple[Floats, ...] = ()
    if rng.random() < 0.75:
        skids = _skids(rng, second)
    smoke = rng.uniform(0.8, 0.95)
    return Collision("moderate", hazards_on, debris, skids, smoke, middle=contact)


def severe(rng: np.random.Generator, middle: Floats, yaw: float) -> Collision:
    """A vehicle on its roof or side, or two that are wrecked; wide debris, dark smoke and fire.

    All burn: of wheels in the air and deep dents too little is left at 168 x 168 pixels, where the
    tiny models look.
    """
    overturned = rng.random() < 0.75
    alone = overturned and rng.random() < 0.3
    first = _first_wreck(rng, overturned)
    first = first.at(middle, yaw + rng.uniform(-1.5, 1.5), first.roll)
    wrecks: tuple[Vehicle, ...] = (first,)
    if not alone:
        second = random_car(rng)
        second_yaw = yaw + rng.uniform(-1.2, 1.2)
        # Two upright wrecks differ from a moderate collision by their deeper dents.
        dent = rng.uniform(0.4, 0.8) if overturned else rng.uniform(0.9, 1.4)
        bearing = second_yaw + rng.normal(0, 0.4)
        wrecks = _meet(rng, first, second, second_yaw, bearing, dent)

    debris = _debris(rng, middle, wrecks, count=int(rng.integers(35, 70)), spread=2.4)
    skids: tuple[Floats, ...] = ()
    if rng.random() < 0.5:
        skids = _skids(rng, first)
    centre = np.mean([wreck.position for wreck in wrecks], axis=0)
    smoke = rng.uniform(0.6, 0.95)
    return Collision("severe", wrecks, debris, skids, smoke, middle=centre)


def _first_wreck(rng: np.random.Generator, overturned: bool) -> Vehicle:
    """A dented car, sometimes a truck; if overturned, rolled onto its roof or a side."""
    kind = "truck"
    if rng.random() < 0.85:
        kind = str(rng.choice(CARS))
    wreck = build(kind, random_colour(rng))
    # The hit is anywhere on the ellipse that the vehicle's length and width span.
    angle = rng.uniform(0, 2 * np.pi)
    x = float(np.cos(angle) * wreck.width / 2)
    y = float(np.sin(angle) * wreck.length / 2)
    wreck = crush(wreck, rng, (x, y), rng.uniform(0.4, 0.9))
    roll = 0.0
    if overturned:
        on_roof = rng.random() < 0.6
        if on_roof:
            roll = np.pi + rng.normal(0, 0.15)
        else:
            roll = rng.choice([-1, 1]) * rng.uniform(1.4, 1.8)
    return replace(wreck, roll=float(roll))


def _meet(
    rng: np.random.Generator,
    first: Vehicle,
    second: Vehicle,
    yaw: float,
    bearing: float,
    depth: float,
) -> tuple[Vehicle, Vehicle]:
    """Drive `second` along `bearing` into `first` until they touch, and dent both there.

    Args:
        yaw: the heading of `second`. depth: of the dents, metres.
    """
    off_middle = rng.uniform(-0.25, 0.25) * first.length
    aim = np.array(first.position) + off_middle * direction(first.yaw)
    way = direction(bearing)

    # How far before the aim the second one stops, by bisection: at `near` the outlines overlap by
    # more than 0.05 m², at `far` they do not. Twelve halvings of 14 m leave less than 4 mm.
    near, far = 0.0, FARTHEST_APART
    outline = first.footprint()
    moving = second.at((0, 0), yaw).footprint()
    for _ in range(12):
        gap = (near + far) / 2
        shifted = (moving + aim - gap * way).astype(np.float32)
        overlap, _ = cv2.intersectConvexConvex(outline, shifted)
        if overlap > 0.05:
            near = gap
        else:
            far = gap
    # 15 cm further in than that: the two overlap.
    second = second.at(aim - (near - 0.15) * way, yaw)

    contact = _contact(first, second)
    if not first.roll:  # an overturned one is dented already
        first = crush(first, rng, _in_its_axes(first, contact), depth)
    return first, crush(second, rng, _in_its_axes(second, contact), depth)


def _contact(first: Vehicle, second: Vehicle) -> Floats:
    """The middle (x, y) of the ground that both vehicles cover, else the middle between them."""
    area, shared = cv2.intersectConvexConvex(first.footprint(), second.footprint())
    if shared is None or area <= 0:
        return (np.array(first.position) + second.position) / 2
    return np.asarray(shared[:, 0].mean(axis=0), float)


def _in_its_axes(vehicle: Vehicle, point: Floats) -> tuple[float, float]:
    """A ground point (x, y) in the vehicle's axes."""
    from_middle = np.append(point - vehicle.position, 0.0)
    x, y, _ = vehicle.rotation().T @ from_middle
    return float(x), float(y)


def _debris(
    rng: np.random.Generator, middle: Floats, wrecks: Sequence[Vehicle], count: int, spread: float
) -> Debris:
    """Glass, dark parts and parts in the vehicles' colours; every sixth piece is a large one.

    Args:
        spread: sigma of the pieces' distance from `middle` in x and in y, metres.
    """
    body_colours = [wreck.colours[np.argmax(wreck.groups == BODY)] for wreck in wrecks]
    colours = np.array(list(FRAGMENTS) + body_colours, float)

    offsets = rng.normal(0, spread, (count, 1, 2))
    length = rng.uniform(0.15, 0.42, count)
    large = length[::6]  # a view: writing to it changes `length`
    large[:] = rng.uniform(0.4, 1.0, len(large)) * min(1, spread / 2)
    angle = rng.uniform(0, np.pi, count)
    width = length * rng.uniform(0.3, 0.8, count)

    # Each piece is a rectangle: its corners lie half its length along and half its width across.
    cos, sin = np.cos(angle), np.sin(angle)
    along = np.stack([cos, sin], axis=1) * length[:, None] / 2
    across = np.stack([-sin, cos], axis=1) * width[:, None] / 2
    rectangles = np.stack([-along - across, along - across, along + across, across - along], axis=1)
    flat = middle + offsets + rectangles
    # Every corner is lifted by another height, higher for larger pieces: they are bent, not flat.
    lift = rng.uniform(0, 0.25, (count, 4, 1)) * np.minimum(1, 2 * length)[:, None, None]

    distance = np.hypot(offsets[:, 0, 0], offsets[:, 0, 1])
    return Debris(
        corners=np.concatenate([flat, lift], axis=2),
        colours=colours[rng.integers(len(colours), size=count)],
        near=distance < 0.7 * spread,
    )


def _skids(rng: np.random.Generator, vehicle: Vehicle) -> tuple[Floats, ...]:
    """Two slightly bent tyre marks that lead to a vehicle from behind."""
    metres_back = np.linspace(0, rng.uniform(4, 10), 12)
    yaw = vehicle.yaw + rng.normal(0, 0.04) * metres_back
    steps = np.stack([np.sin(yaw) * metres_back, np.cos(yaw) * metres_back], axis=1)
    middle = np.array(vehicle.position) - steps
    to_the_right = np.array([np.cos(vehicle.yaw), -np.sin(vehicle.yaw)])
    half_track = to_the_right * vehicle.width * 0.4
    return middle - half_track, middle + half_track
