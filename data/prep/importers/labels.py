"""YOLO label files of untrusted sources, with their faults found and repaired or refused."""

import math
from collections.abc import Sequence
from pathlib import Path

from dat_runtime.types import SEVERITIES, Accident, Box, Severity, Size
from data.prep.importers.classes import Mapped
from data.prep.importers.faults import Fault

UNIT = Size(1, 1)
"""The frame of normalised coordinates: `box.to(size)` gives pixels."""

_MAX_BYTES = 1024 * 1024
_SMALLEST_SIDE = 0.002
_FARTHEST_OUTSIDE = 0.5
_ROUNDING = 1e-6
"""Sources write few decimals: half a unit in the sixth place is not outside."""


def read_labels(
    path: Path, file: str, names: Sequence[Mapped]
) -> tuple[tuple[Accident, ...], list[Fault]]:
    """`parse_labels` of a file; one over a mebibyte is refused unread."""
    if path.stat().st_size > _MAX_BYTES:
        return (), [Fault("malformed-row", file, 1, f"the file is over {_MAX_BYTES >> 20} MiB")]
    return parse_labels(path.read_text("utf-8-sig", errors="replace"), file, names)


def parse_labels(
    text: str, file: str, names: Sequence[Mapped]
) -> tuple[tuple[Accident, ...], list[Fault]]:
    """The accidents of one label file and the faults found in it, by line.

    Boxes are in `UNIT`, inside it. `names` maps class ids to severities. Rows whose fault is
    refused give no accident; the caller stops (`faults.refuse`).
    """
    lines = text.split("\n")
    if not text.strip():
        return (), [Fault("empty-label", file, None, "no rows")]
    numbered = [(number, row.split()) for number, row in enumerate(lines, start=1) if row.strip()]
    rows = [_read_row(fields, names) for _, fields in numbered]
    accidents, faults = merged(rows, file, [number for number, _ in numbered])
    if not text.endswith("\n"):
        faults.append(Fault("no-final-newline", file, len(lines), "the file ends inside a row"))
    return accidents, faults


def merged(
    rows: "Sequence[tuple[Accident | None, Found]]", file: str, places: Sequence[int | str]
) -> tuple[tuple[Accident, ...], list[Fault]]:
    """The accidents of one frame's rows, each box once, and their faults.

    `places` tells where each row is: its line, or in words where a file has no lines.
    """
    accidents: dict[Box, Accident] = {}
    faults = []

    def tell(kind: str, place: int | str, detail: str) -> None:
        if isinstance(place, int):
            faults.append(Fault(kind, file, place, detail))
        else:
            faults.append(Fault(kind, file, None, f"{place}: {detail}"))

    for (accident, found), place in zip(rows, places, strict=True):
        for kind, detail in found:
            tell(kind, place, detail)
        if accident is None:
            continue
        twin = accidents.setdefault(accident.box, accident)
        if twin.severity != accident.severity:
            tell("two-classes", place, "an earlier row has the other class")
            accidents[accident.box] = max(twin, accident, key=_rank)
        elif twin is not accident:
            tell("duplicate-row", place, "equals an earlier row")
    return tuple(accidents.values()), faults


def _rank(accident: Accident) -> int:
    return SEVERITIES.index(accident.severity)


Found = list[tuple[str, str]]
"""(kind, detail) of each fault of a row."""


def _read_row(fields: list[str], names: Sequence[Mapped]) -> tuple[Accident | None, Found]:
    """The accident of one row, if it has one, and (kind, detail) of each fault."""
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        return None, [("not-a-number", f"the row holds text: {_short(fields)}")]
    if not all(map(math.isfinite, numbers)):
        return None, [("not-a-number", f"the row holds NaN or infinity: {_short(fields)}")]
    class_id, *values = numbers
    if class_id not in range(len(names)):
        known = ", ".join(f"{i} = {name}" for i, name in enumerate(names))
        return None, [("unknown-class", f"class {fields[0]}, data.yaml names {known}")]
    severity = names[int(class_id)]
    if severity is None:
        return None, [("ignored-class", f"class {fields[0]}")]
    if len(values) == 4:
        box, found = _box_of_centre(*values), []
    elif len(values) >= 6 and len(values) % 2 == 0:
        box = Box(min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]), UNIT)
        found = [("polygon-row", f"{len(values) // 2} points")]
    else:
        return None, [("malformed-row", f"{len(fields)} numbers: {_short(fields)}")]
    return accident_of(box, severity, found)


def _box_of_centre(cx: float, cy: float, width: float, height: float) -> Box:
    return Box(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2, UNIT)


def box_of_pixels(x1: float, y1: float, x2: float, y2: float, size: Size) -> Box:
    """A box in pixels of a frame of that size, in `UNIT`."""
    return Box(x1 / size.width, y1 / size.height, x2 / size.width, y2 / size.height, UNIT)


def accident_of(box: Box, severity: Severity, found: Found) -> tuple[Accident | None, Found]:
    """The accident of a box in `UNIT`, clipped to the frame, and `found` with its faults."""
    edges = (box.x1, box.y1, box.x2, box.y2)
    told = f"x {box.x1:g}..{box.x2:g}, y {box.y1:g}..{box.y2:g}"
    if box.x2 < box.x1 or box.y2 < box.y1:
        return None, [*found, ("malformed-row", f"negative width or height: {told}")]
    if min(edges) < -_FARTHEST_OUTSIDE or max(edges) > 1 + _FARTHEST_OUTSIDE:
        return None, [*found, ("not-normalised", told)]
    clipped = box.clipped()
    if min(clipped.x2 - clipped.x1, clipped.y2 - clipped.y1) < _SMALLEST_SIDE:
        return None, [*found, ("near-zero-box", told)]
    if min(edges) < -_ROUNDING or max(edges) > 1 + _ROUNDING:
        found = [*found, ("outside-frame", told)]
    return Accident(clipped, severity), found


def _short(fields: list[str]) -> str:
    text = " ".join(fields)
    return repr(text if len(text) <= 60 else text[:57] + "...")
