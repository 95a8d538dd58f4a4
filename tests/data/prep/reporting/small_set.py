"""Six kept frames, and what is known of them, in memory."""

from pathlib import Path

from dat_runtime.types import Accident, Box, Severity, Size
from data.prep.importers.labels import UNIT
from data.prep.importers.source_frame import SourceFrame
from data.prep.pictures.prepare import Prepared
from data.prep.prepared.kept import Kept

TALL, WIDE = Size(48, 64), Size(64, 48)


def accident(x1: float, y1: float, x2: float, y2: float, severity: Severity) -> Accident:
    return Accident(Box(x1, y1, x2, y2, UNIT), severity)


SEVERE = accident(0.25, 0.5, 0.75, 1.0, "severe")
MODERATE = accident(0.0, 0.0, 0.1, 0.05, "moderate")


def kept(
    number: int,
    split: str,
    *accidents: Accident,
    size: Size = WIDE,
    negative: bool = False,
) -> Kept:
    name = f"f{number}"
    file = f"{name}.jpg"
    source = SourceFrame(name, split, Path("source") / file, file, accidents, negative)
    picture = Prepared(name, size, "00" * 32, ())
    return Kept(source, picture, name, number, split=split)


FRAMES = [
    kept(0, "train", SEVERE, MODERATE, size=TALL),
    kept(1, "train", MODERATE),
    kept(2, "train"),
    kept(3, "val", *[SEVERE] * 7),
    kept(4, "test", MODERATE, MODERATE),
    kept(5, "test", negative=True),
]
