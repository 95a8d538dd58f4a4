"""Six kept frames, and what is known of them, in memory."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from dat_runtime.types import Accident, Box, Severity, Size
from data.prep.importers.faults import Fault
from data.prep.importers.labels import UNIT
from data.prep.importers.source_frame import Scan, SourceFrame
from data.prep.pictures import records
from data.prep.pictures.prepare import Prepared
from data.prep.prepared.kept import Kept
from data.prep.reporting.shown import Shown
from data.prep.reporting.summaries import of_set
from data.prep.splitting.leaks import Link
from data.prep.splitting.resolution import Resolution

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

TWINS = {
    "test in train": {"exact": 0, "near": 1, "reframed": 0, "same-source": 0, "same-clip": 0},
    "val in train": dict.fromkeys(("exact", "near", "reframed", "same-source", "same-clip"), 0),
}


def in_memory(folder: Path) -> tuple[dict[str, Any], Shown]:
    """The report of a small set, its pictures and trace in the folder, and what is shown of it."""
    for frame in FRAMES:
        path = folder / frame.image
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.full((frame.size.height, frame.size.width, 3), 90, np.uint8)
        cv2.imwrite(str(path), grey)
    (folder / records.NAME).write_bytes(np.zeros(len(FRAMES), records.RECORD).tobytes())
    (folder / "bandwidth.csv").write_text("second,uplink_bytes_per_s\n0,1000\n1,3000\n")
    scan = Scan([], [], {"train": 3, "val": 1, "test": 2})
    faults = [Fault("polygon-row", "b.txt", 3, "x"), Fault("empty-label", "c.txt", None, "y")]
    config = {"split": "<own>", "single_class": False, "leak_free": False}
    counted = of_set(FRAMES, scan, faults, 9, config | {"negatives_by_clip": False})
    leaks = {"groups": 5, "largest_group": 2, "groups_across_splits": 1}
    trace = {"file": "<t>.csv", "form": "<rates>", "seconds": 1200, "scale": 0.5}
    report = counted | {
        "leaks": leaks | {"frames_with_a_twin": TWINS},
        "conflicts": {"frames": 0},
        "trace": trace | {"mean_bytes_per_s": 1234567.8, "notes": []},
    }
    nothing: Any = SimpleNamespace(of={}, frames=FRAMES, twins={})
    resolution = Resolution(FRAMES, FRAMES, nothing, {}, "keep")
    sources: Any = SimpleNamespace(path=lambda name: folder / name)
    return report, Shown(FRAMES, [Link(1, 4, "near", 7)], resolution, sources)
