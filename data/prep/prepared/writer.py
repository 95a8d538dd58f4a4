"""The prepared set: YOLO images and labels, our own data.yaml, and the truth of each frame."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dat_runtime.types import SEVERITIES, Accident, Size
from data.prep.importers.source_frame import stratum_of

DATA_YAML = """\
# python -m train.gate --config configs/yolo/smoke.yaml --data <this folder> --out runs/gate
train: images/train
val: images/val
test: images/test
"""
_TWO_CLASSES = "nc: 2\nnames:\n  0: moderate\n  1: severe\n"
_ONE_CLASS = "nc: 1\nnames:\n  0: accident\n"


@dataclass(frozen=True)
class Entry:
    """One frame of the set; an accident-free one has no accidents. Boxes are in `labels.UNIT`."""

    id: str
    split: str
    size: Size
    accidents: tuple[Accident, ...]
    negative: bool
    """Whether it comes from the accident-free frames of the CCTV set."""

    @property
    def stratum(self) -> str:
        """What splits are balanced over: the highest severity, `empty`, or `negative`."""
        return "negative" if self.negative else stratum_of(self.accidents)


def image_path(folder: Path, split: str, frame_id: str) -> Path:
    return folder / "images" / split / f"{frame_id}.jpg"


def write_set(folder: Path, entries: Iterable[Entry], single_class: bool = False) -> None:
    """Labels, data.yaml, truth_*.jsonl and metadata; the images are there already.

    With `single_class` the labels have one class, accident; the truth keeps the severities.
    """
    by_split: dict[str, list[Entry]] = {"train": [], "val": [], "test": []}
    for entry in entries:
        by_split[entry.split].append(entry)
    for split, members in by_split.items():
        labels = folder / "labels" / split
        labels.mkdir(parents=True)
        members.sort(key=lambda e: e.id)
        for entry in members:
            (labels / f"{entry.id}.txt").write_text(_label_rows(entry, single_class))
        truth = (json.dumps(_truth(entry)) + "\n" for entry in members)
        (folder / f"truth_{split}.jsonl").write_text("".join(truth))
        metadata = folder / "metadata" / split / "metadata.jsonl"
        metadata.parent.mkdir(parents=True)
        metadata.write_text("".join(json.dumps(_metadata(e)) + "\n" for e in members))
    names = _ONE_CLASS if single_class else _TWO_CLASSES
    (folder / "data.yaml").write_text(DATA_YAML + names)


def _label_rows(entry: Entry, single_class: bool) -> str:
    classes = [0 if single_class else SEVERITIES.index(a.severity) for a in entry.accidents]
    return "".join(map(_label_row, classes, entry.accidents))


def _label_row(class_id: int, accident: Accident) -> str:
    box = accident.box
    numbers = (
        (box.x1 + box.x2) / 2,
        (box.y1 + box.y2) / 2,
        box.x2 - box.x1,
        box.y2 - box.y1,
    )
    return " ".join([str(class_id), *(f"{n:.8f}" for n in numbers)]) + "\n"


def _metadata(entry: Entry) -> dict[str, object]:
    """A line of the `datasets` library's image folder: the path is relative to the file."""
    truth = _truth(entry)
    boxes = [{"bbox": list(a.box.to(entry.size).pixels()), "category": SEVERITIES.index(a.severity)}
             for a in entry.accidents]  # fmt: skip
    return {
        "file_name": f"../../{truth['image']}",
        "image_id": entry.id,
        "width": entry.size.width,
        "height": entry.size.height,
        "objects": {key: [box[key] for box in boxes] for key in ("bbox", "category")},
        "negative": entry.negative,
    }


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
