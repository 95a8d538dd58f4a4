"""The values that cross boundaries. All frozen; a box always says which frame it is in.

Boxes and accidents are named tuples: truth files hold hundreds of thousands of them, and a frozen
dataclass takes twice as long to make.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["moderate", "severe"]
OverallSeverity = Literal["none", "moderate", "severe"]

SEVERITIES: tuple[Severity, ...] = ("moderate", "severe")
"""Class names in class-id order (0 = moderate, 1 = severe) and in rising order of severity."""

ONE_CLASS = "accident"
"""The class of a gate that knows no severities."""


@dataclass(frozen=True)
class Size:
    """Width and height of a frame in pixels."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"frame size must be positive, got {self.width} x {self.height}")

    @property
    def pixels(self) -> int:
        return self.width * self.height


class Box(NamedTuple):
    """An axis-aligned box in pixels of `frame`; right and bottom are exclusive."""

    x1: float
    y1: float
    x2: float
    y2: float
    frame: Size

    @property
    def area(self) -> float:
        return max(0.0, self.x2 - self.x1) * max(0.0, self.y2 - self.y1)

    def to(self, frame: Size) -> "Box":
        """The same box in another frame of the same picture."""
        if frame == self.frame:
            return self
        sx, sy = frame.width / self.frame.width, frame.height / self.frame.height
        return Box(self.x1 * sx, self.y1 * sy, self.x2 * sx, self.y2 * sy, frame)

    def clipped(self) -> "Box":
        """The part of the box that lies inside its frame."""
        w, h = float(self.frame.width), float(self.frame.height)
        return Box(
            min(max(self.x1, 0.0), w),
            min(max(self.y1, 0.0), h),
            min(max(self.x2, 0.0), w),
            min(max(self.y2, 0.0), h),
            self.frame,
        )

    def pixels(self) -> tuple[int, int, int, int]:
        """`(x1, y1, x2, y2)` in whole pixels, inside the frame, at least one pixel each way."""
        box = self.clipped()
        x1 = min(round(box.x1), self.frame.width - 1)
        y1 = min(round(box.y1), self.frame.height - 1)
        return x1, y1, max(round(box.x2), x1 + 1), max(round(box.y2), y1 + 1)

    def iou(self, other: "Box") -> float:
        """Intersection over union, in [0, 1].

        Raises:
            ValueError: the boxes are in different frames.
        """
        if self.frame != other.frame:
            raise ValueError(f"boxes in different frames: {self.frame} and {other.frame}")
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        if width <= 0 or height <= 0:
            return 0.0
        overlap = width * height
        return overlap / (self.area + other.area - overlap)


@dataclass(frozen=True)
class Detection:
    """One detection of the gate, `(b, c, p)` of Eq. 1.

    The severity is `None` where the gate has the one class "accident".
    """

    box: Box
    severity: Severity | None
    confidence: float

    @property
    def label(self) -> str:
        """The name of its class."""
        return self.severity or ONE_CLASS


class Accident(NamedTuple):
    """One accident of an answer or of the truth."""

    box: Box
    severity: Severity


@dataclass(frozen=True)
class Assessment:
    """What the MLLM says of one frame (y of Eq. 3): the answer of `schema`, typed."""

    count: int
    severity: OverallSeverity
    level: int
    score: float
    accidents: tuple[Accident, ...]
    summary: str


def reading_order(item: Accident | Detection) -> tuple[bool, float, float]:
    """Key to sort by, in answers and prompts alike: severe first, then from left to right."""
    return item.severity != "severe", item.box.x1, item.box.y1


def highest_severity(severities: Sequence[str]) -> OverallSeverity:
    """The overall severity of a frame: the highest of its accidents', `none` when it has none."""
    if "severe" in severities:
        return "severe"
    return "moderate" if severities else "none"
