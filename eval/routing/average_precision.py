"""Average precision by COCO's definition, in a form that a bootstrap over frames can repeat.

Which detection finds which box is settled inside a frame, so it is matched once; a resample only
changes how often each frame counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dat_runtime.truth import Frame
from dat_runtime.types import Box, Detection

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100
"""Of a class in a frame, as COCO counts them."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Matched:
    """The d detections of one class in n frames, most confident first.

    Attributes:
        frame: (d,) the number of the detection's frame.
        hits: (10, d) whether it finds a box, at each of `IOUS`.
        boxes: (n,) how many boxes of the class each frame has.
    """

    frame: NDArray[np.intp]
    hits: NDArray[np.bool_]
    boxes: NDArray[np.intp]


def match(
    frames: Sequence[Frame], found: Sequence[Sequence[Detection]], by_severity: bool
) -> list[Matched]:
    """Per class what was found of it: moderate and severe, or all as one class."""
    if not by_severity:
        return [_match_class(frames, found, None)]
    return [_match_class(frames, found, severity) for severity in ("moderate", "severe")]


def _match_class(
    frames: Sequence[Frame], found: Sequence[Sequence[Detection]], severity: str | None
) -> Matched:
    scores: list[float] = []
    of_frame: list[int] = []
    hits = [np.zeros((len(IOUS), 0), bool)]
    boxes = []
    for number, (frame, detections) in enumerate(zip(frames, found, strict=True)):
        true = [a.box for a in frame.accidents if severity in (None, a.severity)]
        said = [d for d in detections if severity in (None, d.severity)]
        said = sorted(said, key=lambda d: -d.confidence)[:MAX_DETECTIONS]
        scores += [d.confidence for d in said]
        of_frame += [number] * len(said)
        hits.append(_hits([d.box.to(frame.size) for d in said], true))
        boxes.append(len(true))
    order = np.argsort(-np.array(scores), kind="stable")
    in_order = np.concatenate(hits, axis=1)[:, order]
    return Matched(np.array(of_frame, np.intp)[order], in_order, np.array(boxes, np.intp))


def _hits(said: Sequence[Box], true: Sequence[Box]) -> NDArray[np.bool_]:
    """(10, boxes said): each in turn takes the free true box that it overlaps most."""
    found = np.zeros((len(IOUS), len(said)), bool)
    if not true:
        return found
    free = np.ones((len(IOUS), len(true)), bool)
    for i, box in enumerate(said):
        overlap = np.array([box.iou(other) for other in true])
        open_to = np.where(free & (overlap >= IOUS[:, None]), overlap, -1.0)
        best = open_to.argmax(axis=1)
        found[:, i] = open_to.max(axis=1) >= 0
        free[found[:, i], best[found[:, i]]] = False
    return found


def mean_average_precision(classes: Sequence[Matched], counts: NDArray[np.intp]) -> Floats:
    """mAP50 and mAP50-95, when frame i counts `counts[i]` times; NaN where no box is left."""
    per_class = np.array([_average_precision(one, counts) for one in classes])
    there = ~np.isnan(per_class[:, 0])
    if not there.any():
        return np.full(2, np.nan)
    at = per_class[there].mean(axis=0)
    return np.array([at[0], at.mean()])


def _average_precision(matched: Matched, counts: NDArray[np.intp]) -> Floats:
    """(10,): the mean over 101 recalls of the best precision that reaches each."""
    boxes = int(counts @ matched.boxes)
    if not boxes:
        return np.full(len(IOUS), np.nan)
    weight = counts[matched.frame]
    total = np.cumsum(weight)
    result = np.zeros(len(IOUS))
    for k, hits in enumerate(matched.hits):
        there = hits & (weight > 0)
        true = np.cumsum(weight * hits)[there]
        precision = true / total[there]
        best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        result[k] = best[np.searchsorted(true / boxes, RECALLS, side="left")].mean()
    return result
