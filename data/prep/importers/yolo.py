"""The Accidents Detection Dataset and its like: a Roboflow YOLO export in its own split."""

from pathlib import Path
from typing import Any

from dat_runtime.errors import DataError
from dat_runtime.truth import SPLITS
from data.prep.importers.classes import Classes, Mapped, plain_yaml
from data.prep.importers.faults import Fault
from data.prep.importers.labels import read_labels
from data.prep.importers.source_frame import (
    Ids,
    Scan,
    SourceFrame,
    by_stem,
    images_of,
    left_without_boxes,
)
from data.prep.importers.sources import Sources


def read_data_yaml(
    path: Path, name: str, classes: Classes | None = None
) -> tuple[list[Mapped], list[Fault]]:
    """Severity of each class id of a Roboflow data.yaml, and its faults.

    Only `names` and `nc` are used: paths in it are replaced by the layout, `download` is ignored.

    Raises:
        DataError: it is not a plain YAML mapping, or a class is not mapped to a severity.
    """
    content = plain_yaml(path)
    if not isinstance(content, dict) or "names" not in content:
        raise DataError("expected a mapping with `names`", path)
    mapped = (classes or Classes()).of(_class_names(content["names"], path), path)
    if content.get("nc", len(mapped)) != len(mapped):
        raise DataError(f"nc is {content['nc']!r:.80} but `names` has {len(mapped)}", path)
    faults = []
    if "download" in content:
        # Ultralytics would execute it where the set is missing (`check_det_dataset`).
        detail = f"download: {content['download']!r:.80}"
        faults.append(Fault("download-key", name, None, detail))
    return mapped, faults


def _class_names(names: Any, path: Path) -> list[Any]:
    """Class names in the order of their ids, of a list or of a mapping from ids."""
    if isinstance(names, dict):
        if sorted(names, key=str) != list(range(len(names))):
            raise DataError(f"class ids of `names` must be 0, 1, ..., got {list(names)}", path)
        return [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise DataError(f"`names` must be a list or a mapping, got {names!r:.200}", path)
    return names


def scan(sources: Sources, classes: Classes, ids: Ids) -> Scan:
    """Images paired with label files, and the faults of both."""
    data_yaml = sources.accidents / "data.yaml"
    names, faults = read_data_yaml(data_yaml, sources.name(data_yaml), classes)
    frames: list[SourceFrame] = []
    published = {}
    for split in SPLITS:
        folder = sources.accident_folder(split)
        images, stray_images = images_of(folder / "images", sources)
        labels, stray_labels = by_stem(folder / "labels", frozenset({".txt"}), sources)
        faults += stray_images + stray_labels
        published[split] = len(images)
        for stem, label in labels.items():
            if stem not in images:
                faults.append(Fault("orphan-label", sources.name(label), None, "has no image"))
        for stem, image in images.items():
            file = sources.name(image)
            if stem not in labels:
                faults.append(Fault("orphan-image", file, None, "has no label file"))
                continue
            label = labels[stem]
            accidents, label_faults = read_labels(label, sources.name(label), names)
            faults += label_faults
            if left_without_boxes(accidents, label_faults):
                faults.append(Fault("no-usable-box", file, None, "no row of its label is usable"))
                continue
            frames.append(SourceFrame(ids.of(stem), split, image, file, accidents))
    return Scan(frames, faults, published)
