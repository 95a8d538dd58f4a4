"""Kept frames without pictures, for the rules that look at labels, names and looks alone."""

from pathlib import Path

from dat_runtime.types import Accident, Box, Severity, Size
from data.prep.importers.labels import UNIT
from data.prep.importers.source_frame import SourceFrame
from data.prep.pictures.prepare import Prepared
from data.prep.prepared.kept import Kept


def accident(
    x1: float, y1: float, x2: float, y2: float, severity: Severity = "moderate"
) -> Accident:
    return Accident(Box(x1, y1, x2, y2, UNIT), severity)


def kept(
    name: str, *accidents: Accident, split: str = "train", negative: bool = False, group: int = -1
) -> Kept:
    """The frame of a file of that name."""
    source = SourceFrame(name, split, Path(f"{name}.jpg"), f"{name}.jpg", accidents, negative)
    picture = Prepared(name, Size(8, 8), "", ())
    return Kept(source, picture, name, 0, split, group)
