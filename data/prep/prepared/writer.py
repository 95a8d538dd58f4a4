"""The prepared set on disk: YOLO images and labels, our own data.yaml, and the truth of each frame.

images/<split>/<id>.jpg, labels/<split>/<id>.txt, data.yaml
truth_<split>.jsonl                 boxes in whole pixels of the frame (`dat_runtime.truth`)
metadata/<split>/metadata.jsonl     the same for the `datasets` library's image folder
groups.json                         per split, each frame's group of frames that belong together
pictures.jsonl                      every picture of the source (`pictures.prepare`)
bandwidth.csv                       the uplink trace: second,uplink_bytes_per_s
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from dat_runtime.files import write_json, write_json_lines
from dat_runtime.truth import GROUPS, SPLITS
from dat_runtime.types import SEVERITIES, Accident
from data.prep.importers import traces
from data.prep.importers.source_frame import SourceFrame
from data.prep.importers.sources import Sources
from data.prep.pictures import prepare
from data.prep.pictures.prepare import Prepared
from data.prep.prepared.kept import Kept

DATA_YAML = """\
# python -m train.gate --config configs/yolo/smoke.yaml --data <this folder> --out runs/gate
train: images/train
val: images/val
test: images/test
"""
_TWO_CLASSES = "nc: 2\nnames:\n  0: moderate\n  1: severe\n"
_ONE_CLASS = "nc: 1\nnames:\n  0: accident\n"


def place_pictures(folder: Path, kept: Iterable[Kept], staging: Path) -> None:
    """Move the kept pictures to their places in the set, and remove `staging` with all others."""
    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True)
    for frame in kept:
        (staging / f"{frame.position}.jpg").rename(folder / frame.image)
    for dropped in staging.iterdir():
        dropped.unlink()
    staging.rmdir()


def write_set(folder: Path, kept: Sequence[Kept], single_class: bool = False) -> None:
    """Labels, data.yaml, truth_*.jsonl and metadata; the images are there already.

    With `single_class` the labels have one class, accident; the truth keeps the severities.
    """
    for split in SPLITS:
        members = sorted((frame for frame in kept if frame.split == split), key=attrgetter("id"))
        labels = folder / "labels" / split
        labels.mkdir(parents=True)
        for frame in members:
            (labels / f"{frame.id}.txt").write_text(_label_rows(frame, single_class))
        write_json_lines(folder / f"truth_{split}.jsonl", map(_truth, members))
        metadata = folder / "metadata" / split
        metadata.mkdir(parents=True)
        write_json_lines(metadata / "metadata.jsonl", map(_metadata, members))
    names = _ONE_CLASS if single_class else _TWO_CLASSES
    (folder / "data.yaml").write_text(DATA_YAML + names)


def _label_rows(frame: Kept, single_class: bool) -> str:
    rows = []
    for accident in frame.accidents:
        class_id = 0 if single_class else SEVERITIES.index(accident.severity)
        rows.append(_label_row(class_id, accident))
    return "".join(rows)


def _label_row(class_id: int, accident: Accident) -> str:
    """`class cx cy w h` in fractions of the frame: a row of Ultralytics' YOLO format."""
    box = accident.box
    cx = (box.x1 + box.x2) / 2
    cy = (box.y1 + box.y2) / 2
    width = box.x2 - box.x1
    height = box.y2 - box.y1
    return f"{class_id} {cx:.8f} {cy:.8f} {width:.8f} {height:.8f}\n"


def _truth(frame: Kept) -> dict[str, Any]:
    """A line of truth_<split>.jsonl; boxes in whole pixels of the frame.

    A frame whose labels contradict those of another frame of the same picture says so: whoever
    scores on it can count without it.
    """
    accidents = [
        {"bbox": _pixels(accident, frame), "severity": accident.severity}
        for accident in frame.accidents
    ]
    mark = {"conflict": frame.conflict} if frame.conflict else {}
    return {
        "image_id": frame.id,
        "image": frame.image,
        "width": frame.size.width,
        "height": frame.size.height,
        "accidents": accidents,
        **mark,
    }


def _metadata(frame: Kept) -> dict[str, Any]:
    """A line of the `datasets` library's image folder: the path is relative to the file."""
    boxes = [_pixels(accident, frame) for accident in frame.accidents]
    categories = [SEVERITIES.index(accident.severity) for accident in frame.accidents]
    return {
        "file_name": f"../../{frame.image}",
        "image_id": frame.id,
        "width": frame.size.width,
        "height": frame.size.height,
        "objects": {"bbox": boxes, "category": categories},
        "negative": frame.negative,
    }


def _pixels(accident: Accident, frame: Kept) -> list[int]:
    return list(accident.box.to(frame.size).pixels())


def write_groups(folder: Path, kept: Sequence[Kept]) -> None:
    """groups.json: for each split, frame -> group; a group has the name of its first frame."""
    name_of: dict[int, str] = {}
    for frame in kept:
        name_of[frame.group] = min(name_of.get(frame.group, frame.id), frame.id)
    groups: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    for frame in kept:
        groups[frame.split][frame.id] = name_of[frame.group]
    write_json(folder / GROUPS, groups, sort_keys=True)


def write_ledger(
    folder: Path, frames: Sequence[SourceFrame], pictures: Sequence[Prepared], kept: Iterable[Kept]
) -> None:
    """pictures.jsonl: every picture of the source, with its place in the set if it has one."""
    place_of = {frame.position: frame.image for frame in kept}
    places = [place_of.get(position) for position in range(len(frames))]
    prepare.write_ledger(zip(frames, pictures, places, strict=True), folder / prepare.LEDGER)


def write_rates(path: Path, rates: Iterable[float]) -> None:
    """A file in the form of bandwidth.csv: `second,uplink_bytes_per_s`."""
    rows = "".join(f"{second},{value:.15g}\n" for second, value in enumerate(rates))
    path.write_text("second,uplink_bytes_per_s\n" + rows)


def write_bandwidth(
    folder: Path, sources: Sources, scale: float, unit: str | None = None
) -> dict[str, Any] | None:
    """Write bandwidth.csv; returns the trace's part of `report.json`, None without a trace."""
    if sources.trace is None:
        return None
    trace = traces.read_uplink(sources.trace, unit)
    uplink = [scale * value for value in trace.rates]
    write_rates(folder / "bandwidth.csv", uplink)
    return {
        "file": sources.name(sources.trace),
        "form": traces.form(sources.trace),
        "scale": scale,
        "notes": trace.words(),
        "seconds": len(uplink),
        "mean_bytes_per_s": round(sum(uplink) / len(uplink), 1),
        "not_used": [sources.name(other) for other in sources.other_traces],
    }
