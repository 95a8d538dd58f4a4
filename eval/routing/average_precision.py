"""Average precision by COCO's definition, in a form that a bootstrap over frames can repeat.

COCO's rules (https://cocodataset.org/#detection-eval; the names are pycocotools' functions):

    1. Each class is measured by itself. Only the 100 most confident detections of a frame count.
    2. At an IoU threshold each detection, most confident first, takes the true box that it overlaps
       most among those that no earlier detection took and that it overlaps by at least the
       threshold (`evaluateImg`). A detection that takes none is a false positive.
    3. Over the detections of all frames, most confident first, precision and recall are running
       shares. The precision at a recall is the best one at that recall or a higher one, and 0 at a
       recall that is never reached (`accumulate`).
    4. AP is the mean of that precision at 101 recalls. mAP50 is its mean over the classes that have
       a true box, at an IoU of 0.5; mAP50-95 is the mean over the ten IoU thresholds too.

Rules 1 and 2 look at one frame at a time, so they are applied once (`match`). A resample changes
only how often each frame counts in rules 3 and 4 (`mean_average_precision`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dat_runtime.truth import Frame
from dat_runtime.types import SEVERITIES, Box, Detection, Severity

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Matched:
    """The d detections of one class in n frames, most confident first.

    Attributes:
        frame: (d,) the number of the detection's frame.
        hits: (10, d) whether it takes a true box, at each of `IOUS`.
        boxes: (n,) how many true boxes of the class each frame has.
    """

    frame: NDArray[np.intp]
    hits: NDArray[np.bool_]
    boxes: NDArray[np.intp]


def match(
    frames: Sequence[Frame], detections: Sequence[Sequence[Detection]], by_severity: bool
) -> list[Matched]:
    """The detections of each class (moderate and severe, or all as one) against the true boxes.

    Args:
        detections: of each frame, most confident first or not.
    """
    if not by_severity:
        return [_match_class(frames, detections, None)]
    return [_match_class(frames, detections, severity) for severity in SEVERITIES]


def _match_class(
    frames: Sequence[Frame], detections: Sequence[Sequence[Detection]], severity: Severity | None
) -> Matched:
    """Rules 1 and 2 for one class; a severity of `None` makes one class of all boxes."""
    confidences: list[float] = []
    frame_numbers: list[int] = []
    hits = [np.zeros((len(IOUS), 0), bool)]  # np.concatenate refuses an empty list
    box_counts: list[int] = []
    for number, (frame, in_frame) in enumerate(zip(frames, detections, strict=True)):
        true_boxes = [a.box for a in frame.accidents if severity in (None, a.severity)]
        of_class = [d for d in in_frame if severity in (None, d.severity)]
        of_class.sort(key=lambda d: -d.confidence)
        counted = of_class[:MAX_DETECTIONS]
        confidences += [d.confidence for d in counted]
        frame_numbers += [number] * len(counted)
        # A detector may answer in a frame of another size; boxes are compared in the truth's.
        hits.append(_hits([d.box.to(frame.size) for d in counted], true_boxes))
        box_counts.append(len(true_boxes))
    # Stable, as COCO's sort is: equal confidences keep the order of the frames.
    order = np.argsort(-np.array(confidences), kind="stable")
    return Matched(
        frame=np.array(frame_numbers, np.intp)[order],
        hits=np.concatenate(hits, axis=1)[:, order],
        boxes=np.array(box_counts, np.intp),
    )


def _hits(detected: Sequence[Box], true: Sequence[Box]) -> NDArray[np.bool_]:
    """Rule 2 in one frame, at all IoU thresholds at once: (10, detected boxes)."""
    hits = np.zeros((len(IOUS), len(detected)), bool)
    if not true:
        return hits
    free = np.ones((len(IOUS), len(true)), bool)
    for i, box in enumerate(detected):
        overlap = np.array([box.iou(other) for other in true])
        # -1 marks a true box that is taken or overlaps too little; an IoU is never below 0.
        candidates = np.where(free & (overlap >= IOUS[:, None]), overlap, -1.0)
        best = candidates.argmax(axis=1)
        is_hit = candidates.max(axis=1) >= 0
        hits[:, i] = is_hit
        free[is_hit, best[is_hit]] = False
    return hits


def mean_average_precision(classes: Sequence[Matched], counts: NDArray[np.intp]) -> Floats:
    """mAP50 and mAP50-95, (2,), when frame i counts `counts[i]` times; NaN without a true box."""
    per_class = np.array([_average_precision(matched, counts) for matched in classes])
    has_boxes = ~np.isnan(per_class[:, 0])
    if not has_boxes.any():
        return np.full(2, np.nan)
    per_iou = per_class[has_boxes].mean(axis=0)
    return np.array([per_iou[0], per_iou.mean()])


def _average_precision(matched: Matched, counts: NDArray[np.intp]) -> Floats:
    """Rules 3 and 4 for one class at each of `IOUS`: (10,); NaN without a true box."""
    box_count = int(counts @ matched.boxes)
    if not box_count:
        return np.full(len(IOUS), np.nan)
    weight = counts[matched.frame]
    detected_so_far = np.cumsum(weight)
    result = np.zeros(len(IOUS))
    for i, hits in enumerate(matched.hits):
        # Between two hits recall stays and precision falls, so the best values are at the hits.
        at_hits = hits & (weight > 0)
        hits_so_far = np.cumsum(weight * hits)[at_hits]
        precision = hits_so_far / detected_so_far[at_hits]
        recall = hits_so_far / box_count
        # The running maximum from the end is the best precision at this recall or a higher one.
        best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
        # searchsorted gives the length of `recall` for a recall that is never reached: the 0.
        reached = np.searchsorted(recall, RECALLS, side="left")
        result[i] = np.append(best_from_here, 0.0)[reached].mean()
    return result
