"""Seven frames with a gate's scores, and what a gate with these scores measures."""

from dataclasses import replace

import numpy as np

from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Detection, Severity, Size
from eval.routing.gated import GatedFrames, sampled

SIZE = Size(100, 100)
TRUTH: list[list[Severity]] = [["severe"], ["moderate"], ["severe", "moderate"], [], [], [], []]
SCORES = [0.9, 0.3, 0.1, 0.5, 0.1, 0.0, 0.2]


def frames() -> GatedFrames:
    return GatedFrames(
        tuple(f"f{i}" for i in range(len(TRUTH))),
        np.array(SCORES),
        np.array([bool(t) for t in TRUTH]),
        np.array(["severe" in t for t in TRUTH]),
    )


def records() -> list[Frame]:
    """The truth of the frames; all boxes are in the same place."""
    truth = []
    for i, severities in enumerate(TRUTH):
        accidents = tuple(Accident(Box(0, 0, 10, 10, SIZE), severity) for severity in severities)
        truth.append(Frame(f"f{i}", f"images/f{i}.png", SIZE, accidents))
    return truth


def detection(confidence: float, x: float, severity: Severity | None = "severe") -> Detection:
    return Detection(Box(x, 0, x + 10, 10, SIZE), severity, confidence)


def measures(scores: list[float]) -> dict[str, np.ndarray]:
    """What a gate with these scores measures, its boxes far from the true ones."""
    detections = [(detection(score, 50),) for score in scores]
    scored = replace(frames(), score=np.array(scores))
    return sampled(scored, records(), detections, by_severity=True)
