"""The prepared set: YOLO images and labels, our own data.yaml, and the truth of each frame."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dat_runtime.types import SEVERITIES, Accident, Size

DATA_YAML = """\
# python -m train.gate --config configs/yolo/smoke.yaml --data <this folder> --out runs/gate
train: images/train
val: images/val
test: images/test
nc: 2
names:
  0: moderate
  1: severe
"""


@dataclass(frozen=True)
class Entry:
    """One frame of the set; an accident-free one has no accidents. Boxes are in `labels.UNIT`."""

    id: str
    split: str
    size: Size
    accidents: tuple[Accident, ...]
    negative: bool
    """Whether it comes from the accident-free frames of the CCTV set."""


class Ids:
    """Gives ids that are unique without regard to case, and safe as file names and in messages."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, stem: str) -> str:
        base = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")[:100] or "frame"
        name, number = base, 2
        while name.lower() in self._taken:
            name, number = f"{base}-{number}", number + 1
        self._taken.add(name.lower())
        return name


def image_path(folder: Path, split: str, frame_id: str) -> Path:
    return folder / "images" / split / f"{frame_id}.jpg"


def write_set(folder: Path, entries: Iterable[Entry]) -> None:
    """Labels, data.yaml and truth_*.jsonl; the images are there already."""
    by_split: dict[str, list[Entry]] = {"train": [], "val": [], "test": []}
    for entry in entries:
        by_split[entry.split].append(entry)
    for split, members in by_split.items():
        labels = folder / "labels" / split
        labels.mkdir(parents=True)
        members.sort(key=lambda e: e.id)
        for entry in members:
            (labels / f"{entry.id}.txt").write_text("".join(map(_label_row, entry.accidents)))
        truth = (json.dumps(_truth(entry)) + "\n" for entry in members)
        (folder / f"truth_{split}.jsonl").write_text("".join(truth))
    (folder / "data.yaml").write_text(DATA_YAML)


def _label_row(accident: Accident) -> str:
    box = accident.box
    numbers = (
        (box.x1 + box.x2) / 2,
        (box.y1 + box.y2) / 2,
        box.x2 - box.x1,
        box.y2 - box.y1,
    )
    return (
        " ".join([str(SEVERITIES.index(accident.severity)), *(f"{n:.8f}" for n in numbers)]) + "\n"
    )


def _truth(entry: Entry) -> dict[str, object]:
    """A line of truth.jsonl; boxes in whole pixels of the frame."""
    return {
        "image_id": entry.id,
        "image": f"images/{entry.split}/{entry.id}.jpg",
        "width": entry.size.width,
        "height": entry.size.height,
        "accidents": [
            {"bbox": list(a.box.to(entry.size).pixels()), "severity": a.severity}
            for a in entry.accidents
        ],
    }
