"""One frame: a place, its traffic, and the collisions with their boxes."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dat_runtime.types import Accident, Box, Severity, Size
from data.prep.rendering import weather as weathers
from data.prep.rendering.camera import SUBPIXEL, Camera, Canvas, Floats, fixed
from data.prep.rendering.places import Place, occlude, stamp
from data.prep.rendering.traffic import Collision, Debris, collision, parked, traffic
from data.prep.rendering.vehicles import Vehicle, paint
from data.prep.rendering.weather import Conditions

Frame = tuple[NDArray[np.uint8], list[Accident]]
"""uint8 (size, size, 3), BGR, and the accidents seen in it."""

SPANS = ((0.28, 0.52), (0.22, 0.42))
"""Longer side of a collision's box as a share of the frame's: of one, and of each of several."""


def ordinary(rng: np.random.Generator, place: Place) -> NDArray[np.uint8]:
    """A frame without accidents, with what is easily taken for one."""
    row = parked(rng, place, []) if rng.random() < 0.2 else []
    cars = row + traffic(
        rng, place, row, density=1 / rng.uniform(12, 50), most=int(rng.integers(1, 8))
    )
    canvas = _start(place)
    _shadows(canvas, place, cars)
    _clutter(canvas, rng, place)
    _paint_all(canvas, place, [(v, 0) for v in cars])
    for car in cars:
        if rng.random() < 0.03:
            weathers.smoke(
                canvas, rng, *_plume(place.camera, np.array(car.position), 2.5), 205, 0.4
            )
    return _finished(canvas, rng, place)


def accident(rng: np.random.Generator, place: Place, severities: Sequence[Severity]) -> Frame:
    """A frame with one collision for each severity, as far as there is room for them.

    A box covers the visible pixels of the collision's vehicles and of the debris near it.

    Raises:
        ValueError: the place shows no lane on which a collision fits.
    """
    for _ in range(40):
        collisions = _apart(rng, place, severities)
        if not collisions:
            continue
        canvas = _compose(rng, place, collisions)
        seen = [_visible(canvas.owner, i + 1) for i in range(len(collisions))]
        if all(box is not None and _longest(box) >= 0.75 * SPANS[1][0] for box in seen):
            accidents = [
                Accident(box, c.severity) for box, c in zip(seen, collisions, strict=True) if box
            ]
            return _finished(canvas, rng, place), accidents
    raise ValueError(f"no room for a collision at this place: {place.camera}, {place.layout.kind}")


def _apart(
    rng: np.random.Generator, place: Place, severities: Sequence[Severity]
) -> list[Collision]:
    """Collisions of a fitting size whose boxes do not meet; empty when the first finds no room."""
    found: list[Collision] = []
    taken: list[Box] = []
    low, high = SPANS[min(len(severities), 2) - 1]
    for severity in severities:
        for _ in range(8 if found else 25):
            tried = collision(rng, place, severity, (low, high))
            box = extent(place.camera, tried)
            whole = box.area > 0.85 * _whole(place.camera, tried)
            free = all(_margined(box).iou(_margined(other)) == 0 for other in taken)
            if whole and free and low <= _longest(box) <= high:
                found.append(tried)
                taken.append(box)
                break
    return found


def extent(camera: Camera, tried: Collision) -> Box:
    """The box of a collision by its geometry alone, clipped to the frame."""
    points = [v.placed() for v in tried.vehicles] + [tried.debris.corners[tried.debris.near]]
    pixels = camera.project(np.concatenate([p.reshape(-1, 3) for p in points]))
    (x1, y1), (x2, y2) = pixels.min(axis=0), pixels.max(axis=0)
    return Box(x1, y1, x2, y2, Size(camera.size, camera.size)).clipped()


def _whole(camera: Camera, tried: Collision) -> float:
    """The area of the vehicles' box before clipping."""
    pixels = np.concatenate([camera.project(v.placed().reshape(-1, 3)) for v in tried.vehicles])
    return float(np.prod(np.ptp(pixels, axis=0)))


def _longest(box: Box) -> float:
    """The longer side as a share of the frame's."""
    return max(box.x2 - box.x1, box.y2 - box.y1) / box.frame.width


def _margined(box: Box) -> Box:
    dx, dy = 0.05 * (box.x2 - box.x1), 0.05 * (box.y2 - box.y1)
    return Box(box.x1 - dx, box.y1 - dy, box.x2 + dx, box.y2 + dy, box.frame)


def _compose(rng: np.random.Generator, place: Place, collisions: Sequence[Collision]) -> Canvas:
    wrecks = [v for c in collisions for v in c.vehicles]
    cars = traffic(
        rng, place, wrecks, density=1 / rng.uniform(15, 50), most=int(rng.integers(1, 6))
    )
    boxes = [extent(place.camera, c) for c in collisions]
    others = [
        v
        for v in cars
        if not any(
            _hides(place.camera, v, c, box) for c, box in zip(collisions, boxes, strict=True)
        )
    ]
    canvas = _start(place)
    for c in collisions:
        _marks(canvas, rng, place.camera, c)
    _shadows(canvas, place, [*wrecks, *others])
    for number, c in enumerate(collisions, 1):
        scatter(canvas, place.camera, c.debris, number)
    owned = [(v, n) for n, c in enumerate(collisions, 1) for v in c.vehicles]
    _paint_all(canvas, place, owned + [(v, 0) for v in others])
    for c in collisions:
        _burn(canvas, rng, place.camera, c)
    if rng.random() < 0.2:
        _occluded(canvas, rng, place.weather)
    return canvas


def scatter(canvas: Canvas, camera: Camera, debris: Debris, owner: int) -> None:
    """Paint debris; what lies near its collision gets `owner`."""
    pieces = zip(camera.project(debris.corners), debris.colours, debris.near, strict=True)
    for corners, colour, near in pieces:
        canvas.fill(corners, colour, owner if near else 0)


def _hides(camera: Camera, vehicle: Vehicle, c: Collision, box: Box) -> bool:
    """Whether a vehicle nearer to the camera covers more than a tenth of a collision's box."""
    spots = np.array([[*vehicle.position, 0.0], [*c.middle, 0.0]])
    near, far = camera.depth(spots)
    (x1, y1), (x2, y2) = (
        f(camera.project(vehicle.placed()), axis=(0, 1)) for f in (np.min, np.max)
    )
    width, height = min(x2, box.x2) - max(x1, box.x1), min(y2, box.y2) - max(y1, box.y1)
    return bool(near < far and width > 0 and height > 0 and width * height > 0.1 * box.area)


def _occluded(canvas: Canvas, rng: np.random.Generator, weather: Conditions) -> None:
    """Hide a part of the frame, unless a collision would lose more than a third."""
    before = canvas.image.copy(), canvas.owner.copy()
    occlude(canvas, rng, weather)
    was = np.bincount(before[1].ravel(), minlength=8)[1:]
    now = np.bincount(canvas.owner.ravel(), minlength=8)[1:]
    if (now < 0.67 * was).any():
        canvas.image[:], canvas.owner[:] = before


def _visible(owner: NDArray[np.uint8], number: int) -> Box | None:
    """The bounds of what is seen of a collision."""
    x, y, w, h = cv2.boundingRect((owner == number).astype(np.uint8))
    return Box(x, y, x + w, y + h, Size(*owner.shape[::-1])) if w else None


def _start(place: Place) -> Canvas:
    size = place.camera.size
    canvas = Canvas(place.background.copy(), np.zeros((size, size), np.uint8))
    canvas.lamps.extend(place.street_lamps)
    return canvas


def _shadows(canvas: Canvas, place: Place, cars: Sequence[Vehicle]) -> None:
    mask = np.zeros(canvas.owner.shape, np.uint8)
    sun = place.weather.sun
    soft = place.weather.shadow < 0.35
    for car in cars:
        points = car.placed().reshape(-1, 3)
        if place.camera.depth(points).min() < 1:
            continue
        slide = np.zeros(2) if soft else -sun[:2] / max(sun[2], 0.3)
        feet = points[:, :2] + points[:, 2:] * slide
        if soft:
            feet = feet + (feet - car.position) * 0.08
        hull = cv2.convexHull(place.camera.ground(feet).astype(np.float32))[:, 0]
        cv2.fillConvexPoly(mask, fixed(hull), 255, cv2.LINE_8, SUBPIXEL)
    mask = cv2.blur(mask, (9, 9) if soft else (3, 3))
    canvas.shade(mask, 0.45 if soft else place.weather.shadow)


def _marks(canvas: Canvas, rng: np.random.Generator, camera: Camera, c: Collision) -> None:
    """Skid marks and a stain, larger after a severe collision."""
    mask = np.zeros(canvas.owner.shape, np.uint8)
    width = max(1, round(0.22 * camera.focal / float(camera.depth(np.array([*c.middle, 0.0])))))
    for line in c.skids:
        cv2.polylines(mask, [fixed(camera.ground(line))], False, 220, width, cv2.LINE_AA, SUBPIXEL)
    reach = 3.4 if c.severity == "severe" else 2.4
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.4, 1, (14, 1)) * reach
    hull = cv2.convexHull(camera.ground(c.middle + ring).astype(np.float32))[:, 0]
    cv2.fillConvexPoly(mask, fixed(hull), 220, cv2.LINE_AA, SUBPIXEL)
    canvas.shade(cv2.blur(mask, (3, 3)), 0.5)


def _clutter(canvas: Canvas, rng: np.random.Generator, place: Place) -> None:
    """Cones, litter and pedestrians: small things that are no accident."""
    camera = place.camera
    lanes = place.layout.lanes()
    for _ in range(rng.integers(0, 4)):
        lane = lanes[rng.integers(len(lanes))]
        at = lane[rng.integers(len(lane))] + rng.normal(0, 3, 2)
        unit = camera.focal / max(3.0, float(camera.depth(np.array([*at, 0.0]))))
        foot = camera.ground(at)
        kind = rng.choice(["cone", "person", "litter"])
        if kind == "cone":
            half, tall = 0.2 * unit, 0.75 * unit
            canvas.fill(foot + np.array([[-half, 0], [half, 0], [0, -tall]]), (40, 110, 235))
        elif kind == "person":
            _person(canvas, rng, foot, unit)
        else:
            for spot in foot + rng.normal(0, 0.5 * unit, (5, 2)):
                square = spot + rng.uniform(-0.15, 0.15, (4, 2)) * unit
                canvas.fill(
                    cv2.convexHull(square.astype(np.float32))[:, 0], [rng.uniform(30, 220)] * 3
                )


def _person(canvas: Canvas, rng: np.random.Generator, foot: Floats, unit: float) -> None:
    coat, legs = rng.uniform(20, 220, 3), rng.uniform(20, 120, 3)
    half = 0.24 * unit
    for low, high, colour in ((0, 0.85, legs), (0.8, 1.5, coat)):
        corners = [[-half, -low], [half, -low], [half, -high], [-half, -high]]
        canvas.fill(foot + np.array(corners) * [1, unit], colour)
    head = foot - [0, 1.62 * unit]
    centre = (int(head[0]), int(head[1]))
    cv2.circle(canvas.image, centre, max(1, int(0.14 * unit)), (120, 150, 190), -1, cv2.LINE_AA)


def _paint_all(canvas: Canvas, place: Place, cars: Sequence[tuple[Vehicle, int]]) -> None:
    """From far to near."""
    middles = np.array([[*v.position, 0.6] for v, _ in cars]).reshape(-1, 3)
    for i in np.argsort(-place.camera.depth(middles), kind="stable"):
        vehicle, owner = cars[i]
        paint(canvas, place.camera, vehicle, place.weather.sun, owner)
        if 1 in vehicle.lit:
            _beam(canvas, place.camera, vehicle)


def _beam(canvas: Canvas, camera: Camera, vehicle: Vehicle) -> None:
    """Headlight pools on the ground ahead."""
    way = np.array([np.sin(vehicle.yaw), np.cos(vehicle.yaw)])
    for ahead, radius in ((2.5, 1.3), (5.0, 1.8)):
        at = np.array([*(vehicle.position + way * (vehicle.length / 2 + ahead)), 0.0])
        depth = float(camera.depth(at))
        if depth > 3:
            x, y = camera.project(at)
            canvas.lamps.append(
                (float(x), float(y), radius * camera.focal / depth, (110.0, 135.0, 140.0))
            )


def _plume(camera: Camera, at: Floats, metres: float) -> tuple[Floats, float]:
    """Foot (pixels) and height (pixels) of a plume above a ground point."""
    point = np.array([*at, 0.8])
    return camera.project(point), metres * camera.focal / max(3.0, float(camera.depth(point)))


def _burn(canvas: Canvas, rng: np.random.Generator, camera: Camera, c: Collision) -> None:
    if c.smoke:
        grey = rng.uniform(25, 70) if c.severity == "severe" else 200
        foot, height = _plume(camera, c.middle, 6 if c.severity == "severe" else 3.5)
        weathers.smoke(canvas, rng, foot, height, grey, c.smoke)
    if c.fire:
        weathers.fire(canvas, rng, *_plume(camera, c.middle, 1.6))


def _finished(canvas: Canvas, rng: np.random.Generator, place: Place) -> NDArray[np.uint8]:
    if rng.random() < 0.4:
        stamp(canvas, rng)
    return weathers.finish(canvas, place.camera, rng, place.weather)
