"""The rules that all layouts share for the boxes of one frame: repaired, dropped or refused.

`faults.RULES` states them in words. Rows of YOLO label files, COCO annotations and VOC objects all
come here: `accident_of` judges the box of one, `merged` those of a frame together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dat_runtime.types import SEVERITIES, Accident, Box, Severity, Size
from data.prep.importers.classes import Mapped
from data.prep.importers.faults import REFUSED, Fault

UNIT = Size(1, 1)
"""The frame of normalised coordinates: `box.to(size)` gives pixels."""

_SMALLEST_SIDE = 0.002
"""A share of the frame: 1.3 pixels of 640."""
_FARTHEST_OUTSIDE = 0.5
"""A share of the frame: a box that reaches farther out is not in fractions; it may be in pixels."""
_ROUNDING = 1e-6
"""A share of the frame: sources round coordinates to some decimals, so an edge this little outside
is inside."""


@dataclass(frozen=True)
class Row:
    """What one row of a label file, or one annotation, gives."""

    accident: Accident | None
    """None where the row is dropped or refused; its faults say why."""
    faults: tuple[tuple[str, str], ...] = ()
    """(kind, detail) of each fault."""


def no_accident(kind: str, detail: str) -> Row:
    """A row that gives no accident, for one reason."""
    return Row(None, ((kind, detail),))


def without_severity(meaning: Mapped, what: str) -> Row | None:
    """The row of a class that is no accident by the user's mapping; None for any other class."""
    if meaning == "ignore":
        return no_accident("ignored-class", what)
    if meaning == "none":
        return no_accident("none-class", what)
    return None


def merged(
    rows: Sequence[Row], file: str, places: Sequence[int | str]
) -> tuple[tuple[Accident, ...], list[Fault]]:
    """The accidents that the rows of one frame give, each box once, and the faults of the rows.

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


def left_out(accidents: Sequence[Accident], faults: Sequence[Fault]) -> tuple[str, str] | None:
    """Why a frame with these labels is left out, as (kind, detail) of a fault; None if it stays.

    A frame without a box is accident-free only if no row of its label says otherwise.
    """
    kinds = {fault.kind for fault in faults}
    if refused := sorted(kinds & REFUSED):
        return "bad-label", f"its label has: {', '.join(refused)}"
    if accidents:
        return None
    if dropped := sorted(kinds & {"near-zero-box", "crowd-region"}):
        return "no-usable-box", f"no box of its label is usable: {', '.join(dropped)}"
    if "ignored-class" in kinds:
        return "only-ignored", "all its boxes are of ignored classes"
    return None


def _fault_at(place: int | str, kind: str, file: str, detail: str) -> Fault:
    if isinstance(place, int):
        return Fault(kind, file, place, detail)
    return Fault(kind, file, None, f"{place}: {detail}")


def _rank(accident: Accident) -> int:
    return SEVERITIES.index(accident.severity)


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

    # Measured after clipping: a large box that only touches the frame has nothing inside it.
    clipped = box.clipped()
    shorter_side = min(clipped.x2 - clipped.x1, clipped.y2 - clipped.y1)
    if shorter_side < _SMALLEST_SIDE:
        faults.append(("near-zero-box", edges))
        return Row(None, tuple(faults))
    if lowest < -_ROUNDING or highest > 1 + _ROUNDING:
        faults.append(("outside-frame", edges))
    return Row(Accident(clipped, severity), tuple(faults))
