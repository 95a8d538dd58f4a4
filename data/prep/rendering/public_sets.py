"""Rendered frames and a trace laid out exactly as the two public image sets and the 5G trace.

The three in one folder:

    accidents-detection/data.yaml, {train,valid,test}/{images,labels}/
    accident-detection-from-cctv-footage/data/{train,val,test}/{Accident,Non Accident}/
    5g-traffic/zoom_1s.csv
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dat_runtime.truth import SPLITS
from dat_runtime.types import SEVERITIES, Accident
from data.prep.rendering.clips import accident_frames, negative_frames
from data.prep.rendering.uplink_trace import uplink_trace

NEGATIVE_SHARES = (268, 120, 120)
"""The paper's split of its negatives, in the order of SPLITS."""
ROBOFLOW_NAMES = {"val": "valid"}
"""A Roboflow export calls one split differently."""
TRACE_SECONDS = 6000
TRACE_STREAM = 99
"""Makes the trace's seed differ from those of the splits."""
DATA_YAML = """train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: [moderate, severe]
"""


def write_sets(folder: Path, seed: int, counts: Sequence[int], negatives: int) -> None:
    """All three sets into `folder`; `counts` are the frames with boxes of train, val and test."""
    with_boxes = folder / "accidents-detection"
    classes = folder / "accident-detection-from-cctv-footage" / "data"
    for split, count in enumerate(counts):
        _write_accidents(with_boxes, classes, seed, split, count)
    (with_boxes / "data.yaml").write_text(DATA_YAML)
    _write_negatives(classes, seed, negatives)
    _write_trace(folder / "5g-traffic", seed)


def _write_accidents(with_boxes: Path, classes: Path, seed: int, split: int, count: int) -> None:
    """One split's frames with boxes; some of them are also in the set of classes."""
    name = SPLITS[split]
    target = with_boxes / ROBOFLOW_NAMES.get(name, name)
    images, labels, copies = target / "images", target / "labels", classes / name / "Accident"
    for part in (images, labels, copies):
        part.mkdir(parents=True)
    for i, (stem, jpeg, accidents) in enumerate(accident_frames(seed, split, count)):
        (images / f"{stem}.jpg").write_bytes(jpeg)
        (labels / f"{stem}.txt").write_text("\n".join(map(_label, accidents)))
        if accidents and i < max(2, count // 30):
            (copies / f"{stem}.jpg").write_bytes(jpeg)
        _show_progress(f"{name} with boxes", i + 1, count)


def _label(accident: Accident) -> str:
    """A YOLO row: class, centre and sides as shares of the frame."""
    box = accident.box
    width, height = box.frame.width, box.frame.height
    shares = (
        (box.x1 + box.x2) / 2 / width,
        (box.y1 + box.y2) / 2 / height,
        (box.x2 - box.x1) / width,
        (box.y2 - box.y1) / height,
    )
    digits = " ".join(f"{share:.10g}" for share in shares)
    return f"{SEVERITIES.index(accident.severity)} {digits}"


def _write_negatives(classes: Path, seed: int, negatives: int) -> None:
    """Accident-free frames with the public set's faults: exact copies and a stray shortcut."""
    counts = [negatives * share // sum(NEGATIVE_SHARES) for share in NEGATIVE_SHARES]
    counts[0] += negatives - sum(counts)  # what rounding down left out
    done = 0
    for split, (name, count) in enumerate(zip(SPLITS, counts, strict=True)):
        target = classes / name / "Non Accident"
        target.mkdir()
        for stem, jpeg in negative_frames(seed, split, count):
            (target / f"{stem}.jpg").write_bytes(jpeg)
            done += 1
            _show_progress("accident-free", done, negatives)

    originals = sorted((classes / "train" / "Non Accident").iterdir())
    every = max(1, len(originals) // 4)
    for i, original in enumerate(originals[::every][:4]):
        # The last copy lies in another split: a leak for the checks to find.
        split_of_copy = "test" if i == 3 else "train"
        copy = classes / split_of_copy / "Non Accident" / f"{original.stem}_copy{i:02d}.jpg"
        copy.write_bytes(original.read_bytes())
    stray = classes / "test" / "Non Accident" / "Pictures - Shortcut.lnk"
    stray.write_bytes(b"L\0\0\0stray shortcut, not an image")


def _write_trace(folder: Path, seed: int) -> None:
    """The trace as CSV: a row per second, bytes per second as whole numbers."""
    folder.mkdir()
    lines = ["DL_bitrate,UL_bitrate"]
    for down, up in uplink_trace(np.random.default_rng([seed, TRACE_STREAM]), TRACE_SECONDS):
        lines.append(f"{down},{up}")
    (folder / "zoom_1s.csv").write_text("\n".join(lines) + "\n")


def _show_progress(what: str, done: int, count: int) -> None:
    if done % 60 == 0 or done == count:
        print(f"[source] {what}: {done}/{count} frames", flush=True)
