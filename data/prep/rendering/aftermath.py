"""What a collision leaves in the picture: debris, skid marks, a stain, smoke and fire."""

import cv2
import numpy as np

from data.prep.rendering.camera import Camera, Floats
from data.prep.rendering.canvas import (
    SUBPIXEL,
    Canvas,
    Light,
    all_channels,
    blend,
    convex,
    fixed,
    noise,
)
from data.prep.rendering.collisions import Collision, Debris
from data.prep.rendering.weather import COARSE


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


def plume(camera: Camera, at: Floats, metres: float) -> tuple[Floats, float]:
    """Foot (x, y) and height, in pixels, of a plume `metres` high above the ground point `at`."""
    source = np.append(at, 0.8)  # about the height of a bonnet
    depth = max(3.0, float(camera.depth(source)))  # nearer plumes are drawn as large as at 3 m
    return camera.project(source), metres * camera.focal / depth


def smoke(
    canvas: Canvas,
    rng: np.random.Generator,
    foot: Floats,
    height: float,
    grey: float,
    density: float,
) -> None:
    """Blend a plume that rises `height` pixels from `foot` (x, y), drifting to one side.

    Args:
        grey: the smoke's brightness in [0, 255]. density: 0 is no smoke, 1 hides what lies behind.
    """
    side = canvas.image.shape[0] // COARSE
    # No smoke is drawn above this row; a multiple of COARSE, so that both resolutions have it.
    top = max(0, int((foot[1] - 1.5 * height) / COARSE)) * COARSE
    if top >= canvas.image.shape[0]:
        return

    # Puffs from the foot upwards: higher ones are wider, further to the side and thinner.
    layer = np.zeros((side, side), np.uint8)
    drift = rng.uniform(-0.6, 0.6)
    for t in np.sort(rng.uniform(0, 1, 26)):
        spread = height * (0.07 + 0.2 * t)
        x = foot[0] + drift * height * t + rng.normal(0, spread * 0.4)
        y = foot[1] - height * t + rng.normal(0, spread * 0.25)
        opacity = int(255 * density * (1 - 0.6 * t) * rng.uniform(0.75, 1))
        radius = max(1, int(spread * rng.uniform(0.7, 1.2) / COARSE))
        cv2.circle(layer, (int(x / COARSE), int(y / COARSE)), radius, opacity, -1)
    layer = cv2.GaussianBlur(layer, (0, 0), max(1.0, height * 0.035 / COARSE))

    uneven = grey + 18 * noise(rng, side, 8)
    colour = np.clip(uneven, 0, 255).astype(np.uint8)
    alpha = cv2.resize(layer, None, fx=COARSE, fy=COARSE)[top:]
    colour = cv2.resize(colour, None, fx=COARSE, fy=COARSE)[top:]
    part = canvas.image[top:]
    part[:] = blend(part, all_channels(colour), alpha)


def fire(canvas: Canvas, rng: np.random.Generator, foot: Floats, height: float) -> None:
    """Flames of about `height` pixels above `foot`."""
    # Towards the tip the flames get narrower and turn from yellow to orange.
    for t in np.sort(rng.uniform(0, 1, 22)):
        x = foot[0] + rng.normal(0, height * 0.3 * (1.1 - t))
        y = foot[1] - height * t
        half = height * 0.16 * (1.15 - t)
        left, right, bottom = [x - half, y], [x + half, y], [x, y + half]
        tip = [x + rng.normal(0, half), y - half * 2.6]
        cold = 1 - t
        colour = (20 + 110 * cold, 120 + 110 * cold * rng.random(), 255.0)
        canvas.fill(np.array([left, tip, right, bottom]), colour)
    middle = foot[1] - height / 2
    canvas.lights.append(Light(float(foot[0]), float(middle), height * 1.2, (40.0, 140.0, 255.0)))
