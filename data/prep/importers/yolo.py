"""YOLO data sets of untrusted origin, such as a Roboflow export: data.yaml, images, label files.

A row of a label file is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` for a polygon, in
fractions of the picture's width and height (Ultralytics' YOLO format).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.errors import DataError
from dat_runtime.truth import SPLITS
from dat_runtime.types import Accident, Box
from data.prep.importers.classes import Classes, Mapped
from data.prep.importers.faults import Fault
from data.prep.importers.labels import UNIT, Row, accident_of, merged, no_accident
from data.prep.importers.plain_yaml import plain_yaml
from data.prep.importers.source_frame import (
    SUFFIXES,
    Ids,
    Scan,
    SourceFrame,
    by_stem,
    left_without_boxes,
)
from data.prep.importers.sources import Sources

_MAX_LABEL_BYTES = 1024 * 1024
"""A row takes some 40 bytes, so this is over 20,000 boxes in one picture."""


def scan(sources: Sources, classes: Classes, ids: Ids) -> Scan:
    """Images paired with label files, and the faults of both."""
    data_yaml = sources.accidents / "data.yaml"
    names, faults = read_data_yaml(data_yaml, sources.name(data_yaml), classes)
    frames: list[SourceFrame] = []
    published = {}
    for split in SPLITS:
        folder = sources.accident_folder(split)
        images, stray_images = by_stem(folder / "images", SUFFIXES, sources)
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
        # Ultralytics executes it when the images are missing (`check_det_dataset`).
        detail = f"download: {content['download']!r:.80}"
        faults.append(Fault("download-key", name, None, detail))
    return mapped, faults


def _class_names(names: Any, path: Path) -> list[Any]:
    """Class names in the order of their ids, from a list or from a mapping of ids to names."""
    if isinstance(names, dict):
        if sorted(names, key=str) != list(range(len(names))):
            raise DataError(f"class ids of `names` must be 0, 1, ..., got {list(names)}", path)
        return [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise DataError(f"`names` must be a list or a mapping, got {names!r:.200}", path)
    return names


def read_labels(
    path: Path, file: str, names: Sequence[Mapped]
) -> tuple[tuple[Accident, ...], list[Fault]]:
    """`parse_labels` of a file; one over a mebibyte is refused unread."""
    if path.stat().st_size > _MAX_LABEL_BYTES:
        detail = f"the file is over {_MAX_LABEL_BYTES >> 20} MiB"
        return (), [Fault("malformed-row", file, 1, detail)]
    # Bytes that are not UTF-8 become text that is not a number: a fault of its row, listed with the
    # others. `files.read_text` would stop at the first such file.
    return parse_labels(path.read_text("utf-8-sig", errors="replace"), file, names)


def parse_labels(
    text: str, file: str, names: Sequence[Mapped]
) -> tuple[tuple[Accident, ...], list[Fault]]:
    """The accidents of one label file and the faults found in it, by line.

    Boxes are in `UNIT`, inside it. `names` maps class ids to severities. Rows whose fault is
    refused give no accident; the caller stops (`faults.refuse`).
    """
    if not text.strip():
        return (), [Fault("empty-label", file, None, "no rows")]
    lines = text.split("\n")
    rows: list[Row] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            rows.append(_read_row(line.split(), names))
            numbers.append(number)
    accidents, faults = merged(rows, file, numbers)
    if not text.endswith("\n"):
        faults.append(Fault("no-final-newline", file, len(lines), "the file ends inside a row"))
    return accidents, faults


def _read_row(fields: list[str], names: Sequence[Mapped]) -> Row:
    """The accident that the fields of one row give, or none, with the faults."""
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        return no_accident("not-a-number", f"the row holds text: {_short(fields)}")
    if not all(map(math.isfinite, numbers)):
        return no_accident("not-a-number", f"the row holds NaN or infinity: {_short(fields)}")
    class_id = numbers[0]
    values = numbers[1:]
    if class_id not in range(len(names)):  # 0.5 is not in a range either
        known = ", ".join(f"{i} = {name}" for i, name in enumerate(names))
        return no_accident("unknown-class", f"class {fields[0]}, data.yaml names {known}")
    severity = names[int(class_id)]
    if severity is None:
        return no_accident("ignored-class", f"class {fields[0]}")
    if len(values) == 4:
        return accident_of(_box_of_centre(*values), severity)
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[::2], values[1::2]
        box = Box(min(xs), min(ys), max(xs), max(ys), UNIT)
        return accident_of(box, severity, polygon_points=len(xs))
    return no_accident("malformed-row", f"{len(fields)} numbers: {_short(fields)}")


def _box_of_centre(cx: float, cy: float, width: float, height: float) -> Box:
    return Box(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2, UNIT)


def _short(fields: list[str]) -> str:
    text = " ".join(fields)
    if len(text) > 60:
        text = text[:57] + "..."
    return repr(text)
