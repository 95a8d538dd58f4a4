"""Scores of parts of the test frames: by light, by severity, by size of the box."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dat_runtime.truth import Frame
from dat_runtime.types import SEVERITIES
from eval.statistics.bootstrap import Floats
from eval.understanding.metrics import HIT, Measures, from_sums, per_frame, subset
from eval.understanding.pictures import picture_of

SIZES = (("small", 0, 32**2), ("medium", 32**2, 96**2), ("large", 96**2, float("inf")))
"""COCO's size classes: area in pixels of the original frame."""

LIGHTS = (("night", 0, 60), ("dusk", 60, 90), ("day", 90, 256))
"""By mean luma (BT.601, 0-255) of the raw test picture. A convention: lamps lift a night street,
fog and rain darken a day, and no public label says which is which."""


def breakdown(frames: Sequence[Frame], measures: Measures, luma: Floats) -> list[dict[str, Any]]:
    """The scores of each group; groups without members are left out.

    There are no intervals: the groups are small. A group by light also has `frames` and `sev_acc`.

    Args:
        luma: (n,) of each frame, NaN where its picture is not there.
    """
    groups: list[dict[str, Any]] = []
    for name, low, high in LIGHTS:
        lit = (low <= luma) & (luma < high)
        if lit.any():
            part = subset(measures, lit)
            totals = from_sums(per_frame(part).sum(axis=0))
            group = {"group": name, "frames": len(part), "sev_acc": float(totals["sev_acc"])}
            groups.append(group | _overlap(part.iou))
    accidents = [accident for frame in frames for accident in frame.accidents]
    severity = np.array([accident.severity for accident in accidents])
    area = np.array([accident.box.area for accident in accidents])
    of_boxes = [(name, severity == name) for name in SEVERITIES]
    for name, low, high in SIZES:
        of_boxes.append((f"{name} box", (low <= area) & (area < high)))
    for name, members in of_boxes:
        if members.any():
            groups.append({"group": name} | _overlap(measures.iou[members]))
    return groups


def _overlap(iou: Floats) -> dict[str, Any]:
    if not len(iou):
        return {"boxes": 0, "bbox_miou": None, "recall_50": None}
    return {
        "boxes": len(iou),
        "bbox_miou": float(iou.mean()),
        "recall_50": float((iou >= HIT).mean()),
    }


def luma_of(frames: Sequence[Frame], instructions: Path) -> Floats:
    """Mean luma of each frame's raw picture, (n,); NaN where it is not there."""
    return np.array([_luma(picture_of(frame, instructions)) for frame in frames])


def _luma(picture: Path | None) -> float:
    import cv2

    if picture is None:
        return float("nan")
    grey = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    return float("nan") if grey is None else float(grey.mean())
