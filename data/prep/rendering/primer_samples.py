"""Samples for the smoke job's base model: coloured boxes drawn on ordinary traffic, and questions.

Boxes are whole pixels of the image, right and bottom exclusive.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dat_runtime.draw import Image, resize
from dat_runtime.types import Box, Size
from data.prep.rendering import frames, places

COLOURS = {
    "orange": (0, 165, 255), "red": (0, 0, 255), "green": (0, 200, 0), "blue": (255, 60, 0),
}  # fmt: skip
"""BGR; orange and red are those of the boxed images (`dat_runtime.draw`)."""
SHARES = (0.35, 0.35, 0.15, 0.15)
"""How often a drawn box has each colour."""
WORDS = (*COLOURS, "moderate", "severe", "car", "lorry", "slow", "fast")
"""Labels for samples without a picture: the colours, and further words, so that the model sees them
before it is tuned."""

SYSTEMS = ("You look at road pictures and mark positions.", "Reply with a list.")
TASKS = {"repeat": 0.45, "both": 0.3, "see": 0.2, "name": 0.05}
"""What is asked, and how often: copy the text (no picture), use both, or read the picture."""
ASKS = {
    "see": "List the drawn boxes from left to right.",
    "repeat": "Given: {listed}. Repeat them.",
    "both": "Given: {listed}. List the drawn boxes from left to right.",
    "name": "Positions: {places}. Name their colours.",
}
PICTURES_PER_PLACE, SAMPLES_PER_PICTURE = 4, 10
BOXES = {0: 0.1, 1: 0.45, 2: 0.3, 3: 0.15}
"""Numbers of boxes in a sample, and how often each occurs."""


@dataclass(frozen=True)
class Mark:
    """A drawn or listed box."""

    label: str
    bbox: tuple[int, int, int, int]


def samples(seed: int, count: int, size: int) -> Iterator[tuple[Image | None, str, str, str]]:
    """`count` samples: image (size, size, 3) or none, system message, user message, answer."""
    rng = np.random.default_rng([seed, size])
    for i in range(count):
        if i % (PICTURES_PER_PLACE * SAMPLES_PER_PICTURE) == 0:
            place = places.place(rng, 2 * size)
        if i % SAMPLES_PER_PICTURE == 0:
            traffic = frames.ordinary(rng, place)
        task = str(rng.choice(list(TASKS), p=list(TASKS.values())))
        image = None
        if task == "repeat":
            marks = draw_marks(rng, size, WORDS, None)
        else:
            marks = draw_marks(rng, size)
            if task == "both":
                marks.sort(key=_from_left)
            image = _cut(rng, traffic, size)
            paint(image, marks, line=int(rng.integers(1, 3)))
        system = str(rng.choice(SYSTEMS))
        yield image, system, ask(rng, task, marks), answer(task, marks)


def _from_left(mark: Mark) -> tuple[int, int]:
    return mark.bbox[0], mark.bbox[1]


def draw_marks(
    rng: np.random.Generator,
    size: int,
    labels: Sequence[str] = tuple(COLOURS),
    shares: Sequence[float] | None = SHARES,
) -> list[Mark]:
    """0-3 boxes with sides of 12-50 % of the image, hardly overlapping, in random order."""
    frame = Size(size, size)
    wanted = int(rng.choice(list(BOXES), p=list(BOXES.values())))
    boxes: list[Box] = []
    marks: list[Mark] = []
    for _ in range(30):  # attempts: three large boxes may leave no room for one another
        if len(marks) == wanted:
            break
        width, height = rng.integers(int(0.12 * size), int(0.5 * size), 2)
        x = int(rng.integers(0, size - width + 1))
        y = int(rng.integers(0, size - height + 1))
        box = Box(x, y, x + int(width), y + int(height), frame)
        if all(box.iou(other) < 0.05 for other in boxes):
            boxes.append(box)
            marks.append(Mark(str(rng.choice(labels, p=shares)), box.pixels()))
    return marks


def paint(image: Image, marks: Sequence[Mark], line: int) -> None:
    """Draw the boxes into the image, lines of `line` pixels inside each box."""
    for mark in marks:
        x1, y1, x2, y2 = mark.bbox
        for inset in range(line):
            top_left = (x1 + inset, y1 + inset)
            bottom_right = (x2 - 1 - inset, y2 - 1 - inset)
            cv2.rectangle(image, top_left, bottom_right, COLOURS[mark.label], 1, cv2.LINE_8)


def ask(rng: np.random.Generator, task: str, marks: Sequence[Mark]) -> str:
    """The user message, without the image.

    A listed box comes with a meaningless number, in the place of the confidence in a real prompt.
    """
    listed = []
    for mark in marks:
        listed.append(f"{mark.label} {rng.uniform(0.25, 1):.2f} {list(mark.bbox)}")
    positions = [str(list(mark.bbox)) for mark in marks]
    return ASKS[task].format(
        listed="; ".join(listed) or "no box", places="; ".join(positions) or "none"
    )


def answer(task: str, marks: Sequence[Mark]) -> str:
    """The number of boxes, the label of the first one, and all boxes.

    They are sorted from left to right, unless the task is to copy them.
    """
    is_copied = task in ("repeat", "name")
    ordered = marks if is_copied else sorted(marks, key=_from_left)
    boxes = [{"bbox_2d": list(mark.bbox), "label": mark.label} for mark in ordered]
    first = ordered[0].label if ordered else "no"
    return json.dumps({"number": len(boxes), "first": first, "boxes": boxes})


def _cut(rng: np.random.Generator, picture: Image, size: int) -> Image:
    """A square part of a traffic picture, mirrored or not, a little lighter or darker."""
    side = int(rng.integers(size, picture.shape[0] + 1))
    x, y = rng.integers(0, picture.shape[0] - side + 1, 2)
    part = picture[y : y + side, x : x + side]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    part = resize(np.ascontiguousarray(part), Size(size, size))
    return np.asarray(cv2.convertScaleAbs(part, alpha=rng.uniform(0.75, 1.2)), np.uint8)
