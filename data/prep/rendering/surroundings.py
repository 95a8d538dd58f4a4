"""What surrounds a road and lies on it: buildings and plants; cones, litter and pedestrians."""

import cv2
import numpy as np

from data.prep.rendering.camera import Camera, Floats
from data.prep.rendering.canvas import Canvas, Mask, convex
from data.prep.rendering.ground import Layout
from data.prep.rendering.weather import Conditions


def surroundings(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, weather: Conditions, paved: Mask
) -> None:
    """Buildings, trees and bushes that do not hide the road, from far to near."""
    spots = rng.uniform([-45, 8], [45, 95], (36, 2))
    town = rng.random()  # 0 in the country; 1 in a city, where half of the spots have a building
    nearest = camera.focus[1] * 0.4
    from_far_to_near = np.argsort(-spots[:, 1])
    for spot in spots[from_far_to_near]:
        column, _ = camera.project_ground(spot)
        if spot[1] < nearest or not 0 < column < camera.size:
            continue
        if rng.random() < town * 0.5:
            _building(canvas, camera, rng, spot, paved)
        else:
            _plant(canvas, camera, rng, spot, weather, paved)


def _building(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, at: Floats, paved: Mask
) -> None:
    """A block with windows; `at` is the ground point at the middle of its front.

    It is left out if it would hide a part of the road.
    """
    width, length, height = rng.uniform(6, 14), rng.uniform(6, 12), rng.uniform(4, 16)
    left, right = at[0] - width / 2, at[0] + width / 2
    near, far = at[1], at[1] + length
    # The camera, at x = 0, sees the flank that is nearer to it.
    side = left if at[0] > 0 else right
    flank = _wall((side, near), (side, far), height)
    front = _wall((left, near), (right, near), height)
    roof = np.array(
        [[left, near, height], [right, near, height], [right, far, height], [left, far, height]]
    )
    faces = [flank, front]
    if camera.height > height:
        faces.append(roof)
    outline = convex(camera.project(np.concatenate(faces)))
    if _covers(outline, paved) or camera.depth(front).min() < 3:
        return

    wall = rng.uniform(80, 190) + rng.uniform(-14, 14, 3)
    pane = wall * rng.uniform(0.35, 0.7)
    for face, light in zip(faces, (0.75, 1.0, 0.85), strict=False):  # a roof is not always seen
        canvas.fill(camera.project(face), np.clip(wall * light, 0, 255))
    for face in (flank, front):
        for u in np.arange(0.08, 0.9, 0.22):  # in shares of the wall's length
            for z in np.arange(1.2, height - 1.6, 3.0):  # a storey is 3 m high
                _window(canvas, camera, face, u, z, pane)


def _wall(start: tuple[float, float], end: tuple[float, float], height: float) -> Floats:
    """An upright wall (4, 3) between two ground points, its foot first."""
    (x1, y1), (x2, y2) = start, end
    return np.array([[x1, y1, 0.0], [x2, y2, 0.0], [x2, y2, height], [x1, y1, height]])


def _window(
    canvas: Canvas, camera: Camera, wall: Floats, u: float, z: float, colour: Floats
) -> None:
    """A window 1.5 m high: it starts at the share `u` of the wall's length and takes 0.12 of it."""
    start, end = wall[0], wall[1]
    left = start * (1 - u) + end * u
    right = start * (0.88 - u) + end * (u + 0.12)
    corners = np.stack([left, right, right, left])
    corners[:, 2] = [z, z, z + 1.5, z + 1.5]
    canvas.fill(camera.project(corners), colour)


def _plant(
    canvas: Canvas,
    camera: Camera,
    rng: np.random.Generator,
    at: Floats,
    weather: Conditions,
    paved: Mask,
) -> None:
    """A tree or a bush, left out if it would hide a part of the road."""
    is_bush = rng.random() < 0.5
    if is_bush:
        height, radius = rng.uniform(0.6, 1.6), rng.uniform(0.7, 2)
        crown = np.append(at, height * 0.6)
    else:
        height, radius = rng.uniform(3, 7), rng.uniform(1.5, 3)
        crown = np.append(at, height)
    pixels_per_metre = camera.focal / float(camera.depth(crown))
    middle, foot = camera.project(crown), camera.project_ground(at)
    reach = radius * pixels_per_metre
    around = middle + reach * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    if _covers(np.concatenate([around, foot[None]]), paved):
        return
    if not is_bush:
        half = np.array([max(1.0, 0.18 * pixels_per_metre), 0.0])
        trunk = np.array([foot - half, foot + half, middle + half, middle - half])
        canvas.fill(trunk, (50, 65, 80))
    leaves(canvas, rng, middle, reach, leaf_colour(rng, weather), 14)


def leaf_colour(rng: np.random.Generator, weather: Conditions) -> Floats:
    """Green, BGR; often white where it snows."""
    if weather.snow and rng.random() < 0.6:
        return rng.uniform(150, 215) + rng.uniform(-6, 6, 3)
    return np.array([45, 90, 60]) * rng.uniform(0.6, 1.3) + rng.uniform(-12, 12, 3)


def leaves(
    canvas: Canvas,
    rng: np.random.Generator,
    middle: Floats,
    reach: float,
    colour: Floats,
    clumps: int,
) -> None:
    """A crown of overlapping clumps, lighter at the top; it hides what lies behind it.

    Args:
        middle: (x, y) of the crown, `reach` its radius; pixels.
    """
    spots = rng.normal(0, 0.45, (clumps, 2)).clip(-0.8, 0.8)
    from_low_to_high = np.argsort(-spots[:, 1])
    for dx, dy in spots[from_low_to_high]:
        centre = (int(middle[0] + dx * reach), int(middle[1] + dy * reach))
        radius = max(1, int(reach * rng.uniform(0.25, 0.42)))
        brightness = 0.95 - 0.45 * dy + rng.uniform(-0.12, 0.12)
        shade = np.clip(colour * brightness, 0, 255)
        cv2.circle(canvas.image, centre, radius, tuple(map(float, shade)), -1, cv2.LINE_AA)
        cv2.circle(canvas.owner, centre, radius, 0, -1)


def _covers(outline: Floats, paved: Mask) -> bool:
    """Whether the box around an outline (n, 2) touches the road in the picture."""
    left, top = np.clip(outline.min(axis=0), 0, len(paved)).astype(int)
    right, bottom = np.clip(outline.max(axis=0) + 1, 0, len(paved)).astype(int)
    return bool(paved[top:bottom, left:right].any())


def clutter(canvas: Canvas, camera: Camera, rng: np.random.Generator, layout: Layout) -> None:
    """Cones, litter and pedestrians near the lanes: small things that are no accident."""
    lanes = layout.lanes()
    for _ in range(rng.integers(0, 4)):
        lane = lanes[rng.integers(len(lanes))]
        at = lane[rng.integers(len(lane))] + rng.normal(0, 3, 2)
        pixels_per_metre = camera.focal / max(3.0, camera.depth_on_ground(at))
        foot = camera.project_ground(at)
        kind = rng.choice(["cone", "person", "litter"])
        if kind == "cone":
            half, height = 0.2 * pixels_per_metre, 0.75 * pixels_per_metre
            triangle = np.array([[-half, 0], [half, 0], [0, -height]])
            canvas.fill(foot + triangle, (40, 110, 235))
        elif kind == "person":
            _person(canvas, rng, foot, pixels_per_metre)
        else:
            _litter(canvas, rng, foot, pixels_per_metre)


def _person(
    canvas: Canvas, rng: np.random.Generator, foot: Floats, pixels_per_metre: float
) -> None:
    """Legs, a coat and a head, 1.76 m tall; `foot` in pixels."""
    coat, legs = rng.uniform(20, 220, 3), rng.uniform(20, 120, 3)
    half = 0.24 * pixels_per_metre
    for low, high, colour in ((0, 0.85, legs), (0.8, 1.5, coat)):
        corners = np.array([[-half, -low], [half, -low], [half, -high], [-half, -high]])
        canvas.fill(foot + corners * [1, pixels_per_metre], colour)
    head = foot - [0, 1.62 * pixels_per_metre]
    centre = (int(head[0]), int(head[1]))
    radius = max(1, int(0.14 * pixels_per_metre))
    cv2.circle(canvas.image, centre, radius, (120, 150, 190), -1, cv2.LINE_AA)


def _litter(
    canvas: Canvas, rng: np.random.Generator, foot: Floats, pixels_per_metre: float
) -> None:
    """Five scraps in shades of grey; `foot` in pixels."""
    for spot in foot + rng.normal(0, 0.5 * pixels_per_metre, (5, 2)):
        scrap = spot + rng.uniform(-0.15, 0.15, (4, 2)) * pixels_per_metre
        grey = rng.uniform(30, 220)
        canvas.fill(convex(scrap), [grey, grey, grey])
