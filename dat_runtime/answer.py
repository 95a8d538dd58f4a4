"""Answers as values and as text: the target that labels call for, and the change of frame."""

import json
from collections.abc import Sequence
from typing import Any

from dat_runtime.files import parse
from dat_runtime.priority import level_of, target_score
from dat_runtime.schema import FAR, accidents_of, is_box, is_integer
from dat_runtime.types import Accident, Assessment, Size, highest_severity


def in_frame(text: str, source: Size, target: Size) -> str:
    """The answer with its boxes carried from frame `source` to frame `target`, whole pixels.

    The verdict of `check` stays: a box inside its frame keeps at least one pixel inside the other,
    one that is outside or empty stays so, and all else is as it was. A text that does not parse, or
    whose frames are equal, comes back unchanged.
    """
    if source == target:
        return text
    try:
        value = parse(text)
    except ValueError:
        return text
    if not isinstance(value, dict):
        return text
    for accident in accidents_of(value):
        bbox: Any = accident.get("bbox")
        if is_box(bbox):
            carried = _carried if all(map(is_integer, bbox)) else _carried_fractions
            x1, x2 = carried(bbox[0], bbox[2], source.width, target.width)
            y1, y2 = carried(bbox[1], bbox[3], source.height, target.height)
            accident["bbox"] = [x1, y1, x2, y2]
    return json.dumps(value, ensure_ascii=False)


def _carried(low: float, high: float, source: int, target: int) -> tuple[float, float]:
    """Both ends of a box along one axis, whole pixels, in the other frame."""
    start, end = (_coordinate(v, source, target) for v in (low, high))
    if 0 <= low < high <= source and end - start < 1:
        start = min(start, target - 1)
        end = start + 1
    return start, end


def _coordinate(value: float, source: int, target: int) -> int:
    """Never falls as `value` rises; what is outside stays outside."""
    there = round(max(-FAR, min(value, FAR)) * target / source)
    if value < 0:
        return min(there, -1)
    return max(there, target + 1) if value > source else there


def _carried_fractions(low: float, high: float, source: int, target: int) -> tuple[float, float]:
    """Both ends unrounded, a hair's breadth inward: fractions stay fractions, and in order."""
    start, end = (max(-FAR, min(v, FAR)) * target / source for v in (low, high))
    return start + 2**-20, end - 2**-20


def as_json(assessment: Assessment) -> dict[str, Any]:
    """The assessment as the JSON object of a compliant answer."""
    accidents = [
        {"bbox": list(a.box.pixels()), "severity": a.severity} for a in assessment.accidents
    ]
    return {
        "count": assessment.count,
        "severity": assessment.severity,
        "level": assessment.level,
        "score": assessment.score,
        "accidents": accidents,
        "summary": assessment.summary,
    }


def dump(assessment: Assessment) -> str:
    """The assessment as the text of a compliant answer."""
    return json.dumps(as_json(assessment), ensure_ascii=False)


def target(accidents: Sequence[Accident]) -> Assessment:
    """The assessment that the labels of a frame call for: the training target.

    Accidents are listed severe first, then from left to right, so that one frame has one answer.
    """
    ordered = tuple(sorted(accidents, key=lambda a: (a.severity != "severe", a.box.x1, a.box.y1)))
    severity = highest_severity([a.severity for a in ordered])
    return Assessment(
        count=len(ordered),
        severity=severity,
        level=level_of(severity),
        score=target_score(ordered),
        accidents=ordered,
        summary=_summary(ordered),
    )


def _summary(accidents: Sequence[Accident]) -> str:
    if not accidents:
        return "No accident."
    severe = sum(a.severity == "severe" for a in accidents)
    parts = [
        f"{n} {s}" for n, s in ((severe, "severe"), (len(accidents) - severe, "moderate")) if n
    ]
    return f"Accidents: {', '.join(parts)}."
