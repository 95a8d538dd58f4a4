"""Answers as values and as text: the target that labels call for, and the change of frame."""

import json
from collections.abc import Sequence
from typing import Any

from dat_runtime.files import parse
from dat_runtime.priority import level_of, target_score
from dat_runtime.schema import FAR, accidents_of, is_box, is_integer
from dat_runtime.types import Accident, Assessment, Size, highest_severity, reading_order


def in_frame(text: str, source: Size, target: Size) -> str:
    """The answer with its boxes moved from frame `source` to frame `target`, whole pixels.

    The verdict of `check` stays the same: a box inside its frame keeps at least one pixel inside
    the other, a box that is outside or empty stays so, and nothing else changes. A text that does
    not parse, or whose frames are equal, comes back unchanged.
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
            # Fractions fail the schema, and have to fail it in the other frame too.
            moved = _moved if all(map(is_integer, bbox)) else _moved_fractions
            x1, x2 = moved(bbox[0], bbox[2], source.width, target.width)
            y1, y2 = moved(bbox[1], bbox[3], source.height, target.height)
            accident["bbox"] = [x1, y1, x2, y2]
    return json.dumps(value, ensure_ascii=False)


def _moved(low: float, high: float, source: int, target: int) -> tuple[float, float]:
    """Both ends of a box along one axis, whole pixels, in the other frame."""
    start = _coordinate(low, source, target)
    end = _coordinate(high, source, target)
    is_inside = 0 <= low < high <= source
    if is_inside and end - start < 1:
        # Rounding took the last pixel of a sliver: an empty box would be a violation.
        start = min(start, target - 1)
        end = start + 1
    return start, end


def _coordinate(value: float, source: int, target: int) -> int:
    """A coordinate in the other frame: outside stays outside, and the order of two is kept."""
    moved = round(_bounded(value) * target / source)
    if value < 0:
        return min(moved, -1)
    if value > source:
        return max(moved, target + 1)
    return moved


def _moved_fractions(low: float, high: float, source: int, target: int) -> tuple[float, float]:
    """Both ends unrounded, a hair's breadth inward: fractions stay fractions, and in order."""
    start = _bounded(low) * target / source
    end = _bounded(high) * target / source
    return start + 2**-20, end - 2**-20


def _bounded(value: float) -> float:
    return max(-FAR, min(value, FAR))


def as_json(assessment: Assessment) -> dict[str, Any]:
    """The assessment as the JSON object of a compliant answer."""
    accidents = [
        {"bbox": list(accident.box.pixels()), "severity": accident.severity}
        for accident in assessment.accidents
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
    ordered = tuple(sorted(accidents, key=reading_order))
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
    severe = sum(accident.severity == "severe" for accident in accidents)
    moderate = len(accidents) - severe
    parts = []
    if severe:
        parts.append(f"{severe} severe")
    if moderate:
        parts.append(f"{moderate} moderate")
    return f"Accidents: {', '.join(parts)}."
