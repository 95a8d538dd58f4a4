"""Scores of parts of the test frames: by light, by severity, by size of the box."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from eval.understanding.metrics import Array, Frame, Measures

SIZES = (("small", 0, 32**2), ("medium", 32**2, 96**2), ("large", 96**2, float("inf")))
"""COCO's size classes: area in pixels of the original frame."""

LIGHTS = (("night", 0, 60), ("dusk", 60, 90), ("day", 90, 256))
"""By mean luma (BT.601, 0-255) of the raw test picture. A convention: lamps lift a night street,
fog and rain darken a day, and no public label says which is which."""


def breakdown(
    frames: "Sequence[Frame]", measures: "Measures", luma: "Array"
) -> list[dict[str, Any]]:
    """Per group what is right in it; groups without members are left out.

    Plain shares, without intervals: the groups are small. By light: `frames` and `sev_acc` too.

    Args:
        luma: (n,) of each frame, NaN where its picture is not there.
    """
    from eval.understanding.metrics import from_sums, per_frame, subset

    found = []
    for name, low, high in LIGHTS:
        members = (low <= luma) & (luma < high)
        if members.any():
            part = subset(measures, members)
            sev_acc = float(from_sums(per_frame(part).sum(axis=0))["sev_acc"])
            told = {"group": name, "frames": int(members.sum()), "sev_acc": sev_acc}
            found.append({**told, **_overlap(part.iou)})
    accidents = list(chain.from_iterable(frame.accidents for frame in frames))
    severity = np.array([accident.severity for accident in accidents])
    area = np.array([accident.box.area for accident in accidents])
    groups = [(name, severity == name) for name in ("moderate", "severe")]
    groups += [(f"{name} box", (low <= area) & (area < high)) for name, low, high in SIZES]
    found += [{"group": n, **_overlap(measures.iou[m])} for n, m in groups if m.any()]
    return found


def _overlap(iou: "Array") -> dict[str, Any]:
    if not len(iou):
        return {"boxes": 0, "bbox_miou": None, "recall_50": None}
    return {
        "boxes": len(iou),
        "bbox_miou": float(iou.mean()),
        "recall_50": float((iou >= 0.5).mean()),
    }


def luma_of(frames: "Sequence[Frame]", instructions: Path) -> "Array":
    """Mean luma of each frame's raw picture, (n,); NaN where it is not there."""
    import cv2

    folder = (instructions / "images" / "raw" / "test").resolve()
    values = []
    for frame in frames:
        path = (folder / f"{frame.image_id}.png").resolve()
        inside = path.is_relative_to(folder) and path.is_file()
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if inside else None
        values.append(float("nan") if grey is None else float(grey.mean()))
    return np.array(values)
