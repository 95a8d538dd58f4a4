"""The Accidents Detection Dataset (Roboflow YOLO export): labelled frames in their own split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dat_runtime.types import Accident, Severity, Size
from data.prep.faults import Fault
from data.prep.images import SUFFIXES, UnreadableImage, read_picture, write_jpeg
from data.prep.labels import read_labels
from data.prep.pool import over_all
from data.prep.sources import SPLITS, Sources
from data.prep.yolo import Entry, Ids, image_path

PAPER_SPLIT = {"train": 10_469, "val": 1_004, "test": 649}
"""Frames of the public set, as the paper gives them."""


@dataclass(frozen=True)
class LabelledFrame:
    """An image of the source with the accidents of its label file, in `labels.UNIT`."""

    id: str
    split: str
    path: Path
    file: str
    accidents: tuple[Accident, ...]


def scan(
    sources: Sources, names: Sequence[Severity], ids: Ids
) -> tuple[list[LabelledFrame], list[Fault], dict[str, int]]:
    """Images paired with labels, the faults of both, and the number of images in each split."""
    frames: list[LabelledFrame] = []
    faults: list[Fault] = []
    published = {}
    for split in SPLITS:
        folder = sources.accident_folder(split)
        images, stray = _by_stem(folder / "images", SUFFIXES, sources)
        labels, stray_labels = _by_stem(folder / "labels", frozenset({".txt"}), sources)
        faults += stray + stray_labels
        published[split] = len(images)
        for stem, label in labels.items():
            if stem not in images:
                faults.append(Fault("orphan-label", sources.name(label), None, "has no image"))
        for stem, image in images.items():
            file = sources.name(image)
            if stem not in labels:
                faults.append(Fault("orphan-image", file, None, "has no label file"))
                continue
            accidents, found = read_labels(labels[stem], sources.name(labels[stem]), names)
            faults += found
            if not accidents and found[0].kind != "empty-label":
                faults.append(Fault("no-usable-box", file, None, "no row of its label is usable"))
                continue
            frames.append(LabelledFrame(ids.of(stem), split, image, file, accidents))
    return frames, faults, published


def _by_stem(
    folder: Path, suffixes: frozenset[str], sources: Sources
) -> tuple[dict[str, Path], list[Fault]]:
    """Files by stem, in order of names, and the faults of what else lies in the folder."""
    files: dict[str, Path] = {}
    faults = []
    for path in sorted(folder.iterdir()):
        name = sources.name(path)
        if not path.is_file() or path.suffix.lower() not in suffixes:
            faults.append(
                Fault("stray-file", name, None, "not one of " + " ".join(sorted(suffixes)))
            )
        elif path.stem in files:
            faults.append(Fault("same-name", name, None, f"beside {files[path.stem].name}"))
        else:
            files[path.stem] = path
    return files, faults


@dataclass(frozen=True)
class _Written:
    size: Size | None
    content: str
    faults: list[Fault]


def write_frames(
    frames: Sequence[LabelledFrame], folder: Path
) -> tuple[list[Entry], list[Fault], dict[str, LabelledFrame]]:
    """Write each frame's image; returns the entries, the faults, and the first of each content.

    Sound JPEGs are copied byte for byte. Exact copies stay, as the published split is kept.
    """
    entries = []
    faults = []
    first: dict[str, LabelledFrame] = {}

    def work(frame: LabelledFrame) -> _Written:
        return _write_frame(frame, image_path(folder, frame.split, frame.id))

    for frame, written in zip(frames, over_all(work, frames, "accident frames"), strict=True):
        faults += written.faults
        if written.size is None:
            continue
        entries.append(Entry(frame.id, frame.split, written.size, frame.accidents, negative=False))
        original = first.setdefault(written.content, frame)
        if original is not frame:
            where = "of the same split" if original.split == frame.split else "of another split"
            detail = f"copy of {original.file}, {where}"
            faults.append(Fault("duplicate-frame", frame.file, None, detail))
    return entries, faults, first


def _write_frame(frame: LabelledFrame, path: Path) -> _Written:
    try:
        picture = read_picture(frame.path)
    except UnreadableImage as error:
        return _Written(None, "", [Fault(error.kind, frame.file, None, error.detail)])
    if picture.jpeg is not None:
        path.write_bytes(picture.jpeg)
    else:
        write_jpeg(picture.rgb, path)
    faults = [Fault(kind, frame.file, None, detail) for kind, detail in picture.repairs]
    return _Written(picture.size, picture.content, faults)
