"""Smoke and fire above a point of the ground."""

import cv2
import numpy as np

from data.prep.rendering.camera import Camera, Floats
from data.prep.rendering.canvas import Canvas, Light, all_channels, blend, noise
from data.prep.rendering.weather import COARSE


def plume(camera: Camera, at: Floats, metres: float) -> tuple[Floats, float]:
    """Foot (x, y) and height, in pixels, of a plume `metres` high above the ground point `at`."""
    source = np.append(at, 0.8)  # about the height of a bonnet
    depth = max(3.0, float(camera.depth(source)))  # none is drawn larger than it is at 3 m
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
        grey: its brightness in [0, 255]. density: 0 is none, 1 hides what lies behind.
    """
    side = canvas.image.shape[0] // COARSE
    # Nothing of it reaches higher; a multiple of COARSE, so that both resolutions have this row.
    top = max(0, int((foot[1] - 1.5 * height) / COARSE)) * COARSE
    if top >= canvas.image.shape[0]:
        return

    # Puffs from the foot upwards: the higher, the wider, the further drifted and the thinner.
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
    # From the foot upwards narrower and, in BGR, from yellow to orange.
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
