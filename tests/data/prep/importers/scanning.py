"""What a scan of one source's accident frames gives, for tests of layouts and labels."""

from collections import Counter
from typing import NamedTuple

from dat_runtime.types import Size
from data.prep.importers import coco, voc, yolo
from data.prep.importers.classes import Classes
from data.prep.importers.faults import Fault
from data.prep.importers.source_frame import Ids
from data.prep.importers.sources import find_sources
from tests.data.prep.source_builder import jpeg, picture

SIZE = Size(64, 48)
"""Of every picture that `put` writes."""
CLASSES = Classes({"crash": "severe", "bump": "moderate", "car": "ignore"})
YOLO = "1 0.5 0.5 0.5 0.5\n"
"""A severe box of the classes bump, crash: 16, 12, 48, 36."""
BOX = ("severe", 16, 12, 48, 36)


class Scanned(NamedTuple):
    layout: str
    frames: dict
    """File -> (split, boxes as (severity, x1, y1, x2, y2) in pixels)."""
    faults: list[Fault]
    published: dict

    @property
    def counts(self):
        return Counter(fault.kind for fault in self.faults)


def scan(root, classes=CLASSES):
    sources = find_sources(root, without=("negatives", "trace"))
    scanned = {"yolo": yolo.scan, "coco": coco.scan, "voc": voc.scan}[sources.layout](
        sources, classes, Ids()
    )
    frames = {f.file: (f.split, [_pixels(a) for a in f.accidents]) for f in scanned.frames}
    return Scanned(sources.layout, frames, scanned.faults, scanned.published)


def _pixels(accident):
    box = accident.box.to(SIZE)
    return (accident.severity, *(round(edge, 3) for edge in (box.x1, box.y1, box.x2, box.y2)))


_PICTURE = jpeg(picture(0, SIZE.width, SIZE.height))


def put(root, *names):
    """Write files below a folder: a picture, or the text that follows the name."""
    for name in names:
        name, text = name if isinstance(name, tuple) else (name, None)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_PICTURE if text is None else text.encode())
    return root
