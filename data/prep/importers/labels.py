"""YOLO label files of untrusted sources, with their faults found and repaired or refused.

A row is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` for a polygon, in fractions of the
picture's width and height (Ultralytics' YOLO format). `merged` and `accident_of` hold the rules
that rows of COCO and VOC files share with it; `faults.RULES` states them in words.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dat_runtime.types import SEVERITIES, Accident, Box, Severity, Size
from data.prep.importers.classes import Mapped
from data.prep.importers.faults import Fault

UNIT = Size(1, 1)
"""The frame of normalised coordinates: `box.to(size)` gives pixels."""

_MAX_BYTES = 1024 * 1024
"""A row takes some 40 bytes, so this is over 20,000 boxes in one picture."""
_SMALLEST_SIDE = 0.002
"""Of the frame: 1.3 pixels of 640."""
_FARTHEST_OUTSIDE = 0.5
"""Of the frame: a box that reaches farther out is not one in fractions, but one in pixels, say."""
_ROUNDING = 1e-6
"""Sources write few decimals: half a unit in the sixth place is not outside."""


@dataclass(frozen=True)
class Row:
    """What one row of a label file, or one annotation, gives."""

    accident: Accident | None
    """None where the row is dropped or refused; its faults say why."""
    faults: tuple[tuple[str, str], ...] = ()
    """(kind, detail) of each."""


def no_accident(kind: str, detail: str) -> Row:
    """A row that gives no accident, for one reason."""
    return Row(None, ((kind, detail),))


def read_labels(
    path: Path, file: str, names: Sequence[Mapped]
) -> tuple[tuple[Accident, ...], list[Fault]]:
    """`parse_labels` of a file; one over a mebibyte is refused unread."""
    if path.stat().st_size > _MAX_BYTES:
        return (), [Fault("malformed-row", file, 1, f"the file is over {_MAX_BYTES >> 20} MiB")]
    # Bytes that are not UTF-8 become text that is no number: a fault of their row, listed with the
    # others, where `files.read_text` would stop at the first such file.
    return parse_labels(path.read_text("utf-8-sig", errors="replace"), file, names)


def parse_labels(
    text: str, file: str, names: Sequence[Mapped]
) -> tuple[tuple[Accident, ...], list[Fault]]:
    """The accidents of one label file and the faults found in it, by line.

    Boxes are in `UNIT`, inside it. `names` maps class ids to severities. Rows whose fault is
    refused give no accident; the caller stops (`faults.refuse`).
    """
    if not text.strip():
        return (), [Fault("empty-label", file, None, "no rows")]
    lines = text.split("\n")
    rows: list[Row] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            rows.append(_read_row(line.split(), names))
            numbers.append(number)
    accidents, faults = merged(rows, file, numbers)
    if not text.endswith("\n"):
        faults.append(Fault("no-final-newline", file, len(lines), "the file ends inside a row"))
    return accidents, faults


def merged(
    rows: Sequence[Row], file: str, places: Sequence[int | str]
) -> tuple[tuple[Accident, ...], list[Fault]]:
    """The accidents of one frame's rows, each box once, and their faults.

    `places` says where each row is: its line, or in words where a file has no lines.
    """
    accidents: dict[Box, Accident] = {}
    faults: list[Fault] = []
    for row, place in zip(rows, places, strict=True):
        for kind, detail in row.faults:
            faults.append(_fault_at(place, kind, file, detail))
        accident = row.accident
        if accident is None:
            continue
        earlier = accidents.setdefault(accident.box, accident)
        if earlier is accident:
            continue
        if earlier.severity == accident.severity:
            faults.append(_fault_at(place, "duplicate-row", file, "equals an earlier row"))
        else:
            accidents[accident.box] = max(earlier, accident, key=_rank)
            detail = "an earlier row has the other class"
            faults.append(_fault_at(place, "two-classes", file, detail))
    return tuple(accidents.values()), faults


def _fault_at(place: int | str, kind: str, file: str, detail: str) -> Fault:
    if isinstance(place, int):
        return Fault(kind, file, place, detail)
    return Fault(kind, file, None, f"{place}: {detail}")


def _rank(accident: Accident) -> int:
    return SEVERITIES.index(accident.severity)


def _read_row(fields: list[str], names: Sequence[Mapped]) -> Row:
    """What the fields of one row give."""
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        return no_accident("not-a-number", f"the row holds text: {_short(fields)}")
    if not all(map(math.isfinite, numbers)):
        return no_accident("not-a-number", f"the row holds NaN or infinity: {_short(fields)}")
    class_id = numbers[0]
    values = numbers[1:]
    if class_id not in range(len(names)):  # 0.5 is in no range of whole numbers
        known = ", ".join(f"{i} = {name}" for i, name in enumerate(names))
        return no_accident("unknown-class", f"class {fields[0]}, data.yaml names {known}")
    severity = names[int(class_id)]
    if severity is None:
        return no_accident("ignored-class", f"class {fields[0]}")
    if len(values) == 4:
        return accident_of(_box_of_centre(*values), severity)
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[::2], values[1::2]
        box = Box(min(xs), min(ys), max(xs), max(ys), UNIT)
        return accident_of(box, severity, polygon_points=len(xs))
    return no_accident("malformed-row", f"{len(fields)} numbers: {_short(fields)}")


def _box_of_centre(cx: float, cy: float, width: float, height: float) -> Box:
    return Box(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2, UNIT)


def box_of_pixels(x1: float, y1: float, x2: float, y2: float, size: Size) -> Box:
    """A box in pixels of a frame of that size, in `UNIT`."""
    return Box(x1 / size.width, y1 / size.height, x2 / size.width, y2 / size.height, UNIT)


def accident_of(box: Box, severity: Severity, polygon_points: int = 0) -> Row:
    """What a box in `UNIT` gives: an accident clipped to the frame, or none, with the faults.

    Args:
        polygon_points: of the polygon that the box was drawn around; 0 where the source has a box.
    """
    faults: list[tuple[str, str]] = []
    if polygon_points:
        faults.append(("polygon-row", f"{polygon_points} points"))
    edges = f"x {box.x1:g}..{box.x2:g}, y {box.y1:g}..{box.y2:g}"
    lowest = min(box.x1, box.y1, box.x2, box.y2)
    highest = max(box.x1, box.y1, box.x2, box.y2)

    if box.x2 < box.x1 or box.y2 < box.y1:
        faults.append(("malformed-row", f"negative width or height: {edges}"))
        return Row(None, tuple(faults))
    if lowest < -_FARTHEST_OUTSIDE or highest > 1 + _FARTHEST_OUTSIDE:
        faults.append(("not-normalised", edges))
        return Row(None, tuple(faults))

    # Measured after clipping: of a large box that only touches the frame, nothing is left inside.
    clipped = box.clipped()
    shorter_side = min(clipped.x2 - clipped.x1, clipped.y2 - clipped.y1)
    if shorter_side < _SMALLEST_SIDE:
        faults.append(("near-zero-box", edges))
        return Row(None, tuple(faults))
    if lowest < -_ROUNDING or highest > 1 + _ROUNDING:
        faults.append(("outside-frame", edges))
    return Row(Accident(clipped, severity), tuple(faults))


def _short(fields: list[str]) -> str:
    text = " ".join(fields)
    if len(text) > 60:
        text = text[:57] + "..."
    return repr(text)
