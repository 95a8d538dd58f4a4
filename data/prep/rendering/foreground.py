"""What is between the camera and the road: branches, a pole or a sign; the recorder's text."""

import cv2
import numpy as np

from data.prep.rendering.canvas import Canvas
from data.prep.rendering.surroundings import leaf_colour, leaves
from data.prep.rendering.weather import Conditions

BOARDS = ((150, 80, 20), (60, 120, 30), (210, 210, 210), (40, 40, 190))
"""BGR of road signs: blue, green, grey and red."""


def occlude(canvas: Canvas, rng: np.random.Generator, weather: Conditions) -> None:
    """Hide a part of the frame by something near the camera: branches, a pole, or a sign."""
    kind = rng.choice(["branches", "pole", "sign"])
    if kind == "branches":
        _branches(canvas, rng, weather)
        return
    x = _pole(canvas, rng)
    if kind == "sign":
        _sign(canvas, rng, x)


def _branches(canvas: Canvas, rng: np.random.Generator, weather: Conditions) -> None:
    """Three crowns that hang in from the left or right edge, in the upper half."""
    side = canvas.image.shape[0]
    edge = rng.choice([0.0, 1.0]) * side
    root = np.array([edge, rng.uniform(-0.05, 0.5) * side])
    for _ in range(3):
        middle = root + rng.normal(0, 0.07, 2) * side
        reach = rng.uniform(0.06, 0.15) * side
        leaves(canvas, rng, middle, reach, leaf_colour(rng, weather), 22)


def _pole(canvas: Canvas, rng: np.random.Generator) -> float:
    """A grey pole from above the frame, wider towards its foot; returns its x in pixels."""
    side = canvas.image.shape[0]
    x = rng.uniform(0.05, 0.95) * side
    width = rng.uniform(0.01, 0.03) * side
    grey = rng.uniform(70, 150) + rng.uniform(-8, 8, 3)
    foot = rng.uniform(0.75, 1.1) * side
    top = -2
    corners = [[x, top], [x + width, top], [x + width * 1.15, foot], [x - width * 0.15, foot]]
    canvas.fill(np.array(corners), grey)
    return float(x)


def _sign(canvas: Canvas, rng: np.random.Generator, x: float) -> None:
    """A board with a light border, in the upper part of the frame, its middle at `x`."""
    side = canvas.image.shape[0]
    top = rng.uniform(0.05, 0.3) * side
    bottom = top + 0.1 * side
    half = rng.uniform(0.05, 0.09) * side
    left, right = x - half, x + half
    board = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    canvas.fill(board, BOARDS[rng.integers(len(BOARDS))])
    border = board * 0.9 + board.mean(axis=0) * 0.1  # a tenth of the way to the board's middle
    corners = border.astype(np.int32)
    cv2.polylines(canvas.image, [corners], True, (235, 235, 235), 1, cv2.LINE_AA)


def stamp(canvas: Canvas, rng: np.random.Generator) -> None:
    """The recorder's text in the upper or lower left corner: camera, date and time."""
    values = rng.integers([1, 1, 1, 0, 0, 0], [100, 13, 29, 24, 60, 60])
    text = "CAM{:02d} 2024-{:02d}-{:02d} {:02d}:{:02d}:{:02d}".format(*values)
    baseline = 24 if rng.random() < 0.5 else 628  # rows of a frame of the reference side
    corner = (int(10 * canvas.scale), int(baseline * canvas.scale))
    size = 0.55 * canvas.scale
    # Light letters on a wider dark copy are legible on any background.
    for colour, thickness in ((20, 20, 20), 3), ((235, 235, 235), 1):
        cv2.putText(
            canvas.image, text, corner, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness,
            cv2.LINE_AA,
        )  # fmt: skip
