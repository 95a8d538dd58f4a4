"""Small things in the picture: what lies and walks about, and the traces of a collision."""

import cv2
import numpy as np

from data.prep.rendering.camera import Camera, Floats
from data.prep.rendering.canvas import SUBPIXEL, Canvas, convex, fixed
from data.prep.rendering.collisions import Collision, Debris
from data.prep.rendering.ground import Layout


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
    """Five scraps of some grey; `foot` in pixels."""
    for spot in foot + rng.normal(0, 0.5 * pixels_per_metre, (5, 2)):
        scrap = spot + rng.uniform(-0.15, 0.15, (4, 2)) * pixels_per_metre
        grey = rng.uniform(30, 220)
        canvas.fill(convex(scrap), [grey, grey, grey])


def scatter(canvas: Canvas, camera: Camera, debris: Debris, owner: int) -> None:
    """Paint debris; what lies near its collision gets `owner`."""
    pixels = camera.project(debris.corners)
    for corners, colour, near in zip(pixels, debris.colours, debris.near, strict=True):
        canvas.fill(corners, colour, owner if near else 0)


def marks(canvas: Canvas, camera: Camera, rng: np.random.Generator, collision: Collision) -> None:
    """Skid marks and a stain, larger after a severe collision."""
    mask = np.zeros(canvas.owner.shape, np.uint8)
    # As wide as a tyre, 0.22 m.
    width = max(1, round(0.22 * camera.focal / camera.depth_on_ground(collision.middle)))
    for skid in collision.skids:
        line = fixed(camera.project_ground(skid))
        cv2.polylines(mask, [line], False, 220, width, cv2.LINE_AA, SUBPIXEL)

    reach = 3.4 if collision.severity == "severe" else 2.4
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    stain = circle * rng.uniform(0.4, 1, (14, 1)) * reach
    outline = convex(camera.project_ground(collision.middle + stain))
    cv2.fillConvexPoly(mask, fixed(outline), 220, cv2.LINE_AA, SUBPIXEL)
    canvas.shade(cv2.blur(mask, (3, 3)), 0.5)
