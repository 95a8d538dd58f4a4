"""COCO JSON of a user's own data: `images`, `annotations` and `categories` (cocodataset.org).

A `bbox` is `[x, y, width, height]` in pixels of the size that `images` states; a `segmentation`
without a box is a list of polygons, each `[x1, y1, x2, y2, ...]`.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime import files
from dat_runtime.errors import DataError
from dat_runtime.fields import is_finite
from dat_runtime.types import Size
from data.prep.importers.classes import Classes, Mapped
from data.prep.importers.faults import Fault
from data.prep.importers.labels import Row, accident_of, box_of_pixels, merged, no_accident
from data.prep.importers.source_frame import (
    SUFFIXES,
    Ids,
    Scan,
    SourceFrame,
    left_without_boxes,
)
from data.prep.importers.sources import Sources, annotation_files

_MAX_BYTES = 1024**3
_COLUMNS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "images": {"id": (int, str), "file_name": str, "width": int, "height": int},
    "annotations": {"image_id": (int, str), "category_id": int},
    "categories": {"id": int, "name": str},
}
"""The tables and keys that are needed, with their types. All other keys are ignored, but `bbox` and
`segmentation` are judged annotation by annotation, as faults."""


def scan(sources: Sources, classes: Classes, ids: Ids) -> Scan:
    """The frames of every annotation file of the folder."""
    frames: list[SourceFrame] = []
    faults: list[Fault] = []
    published: dict[str, int] = {}
    for file, split in annotation_files(sources.accidents).items():
        file_frames, file_faults = _scan_file(file, split, sources, classes, ids)
        frames += file_frames
        faults += file_faults
        if split is not None:
            published[split] = published.get(split, 0) + len(file_frames)
    return Scan(frames, faults, published)


def _scan_file(
    file: Path, split: str | None, sources: Sources, classes: Classes, ids: Ids
) -> tuple[list[SourceFrame], list[Fault]]:
    """The frames of one annotation file, and its faults."""
    content = _read(file)
    name = sources.name(file)
    severities = _severities(content, classes, file)
    annotations_of = defaultdict(list)
    for annotation in content["annotations"]:
        annotations_of[annotation.get("image_id")].append(annotation)
    folders = _image_folders(file, split, sources.accidents)

    frames: list[SourceFrame] = []
    faults: list[Fault] = []
    used: set[Path] = set()
    for image in content["images"]:
        path = _locate(image["file_name"], folders)
        annotations = annotations_of.pop(image["id"], [])
        if path is None:
            detail = f"image {image['file_name']!r:.120} does not exist"
            faults.append(Fault("orphan-label", name, None, detail))
            continue
        if path in used:
            detail = f"image {image['file_name']!r:.120} is listed twice"
            faults.append(Fault("same-name", name, None, detail))
            continue
        used.add(path)
        size = Size(image["width"], image["height"])
        rows = [_row(annotation, severities, size) for annotation in annotations]
        places = [_place(annotation, image) for annotation in annotations]
        accidents, row_faults = merged(rows, name, places)
        faults += row_faults
        picture = sources.name(path)
        if left_without_boxes(accidents, row_faults):
            faults.append(Fault("no-usable-box", picture, None, "no box is usable"))
            continue
        frame_id = ids.of(path.stem)
        frames.append(SourceFrame(frame_id, split, path, picture, accidents, declared=size))

    # The annotations of listed images were popped above; the rest belong to no listed image.
    for image_id, annotations in annotations_of.items():
        detail = f"{len(annotations)} annotations of image id {image_id!r:.80}, which is not listed"
        faults.append(Fault("orphan-label", name, None, detail))
    if folders:
        for path in sorted(folders[0].iterdir()):
            if path.suffix.lower() in SUFFIXES and path not in used:
                detail = f"is not listed in {name}"
                faults.append(Fault("orphan-image", sources.name(path), None, detail))
    return frames, faults


def _read(file: Path) -> dict[str, Any]:
    """The file's content with the keys and types that the rest relies on.

    Raises:
        DataError: it is not COCO JSON; names what is missing.
    """
    if file.stat().st_size > _MAX_BYTES:
        raise DataError(f"over {_MAX_BYTES >> 30} GiB", file)
    try:
        # Not `files.read_json`: given bytes, json.loads also reads a byte order mark and UTF-16.
        content = json.loads(files.read_bytes(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", file, getattr(error, "lineno", None)) from None
    if not isinstance(content, dict):
        content = {}
    for table, columns in _COLUMNS.items():
        rows = content.get(table)
        if not isinstance(rows, list):
            raise DataError(f"not COCO JSON: expected a list `{table}`", file)
        for number, row in enumerate(rows):
            for key, kind in columns.items():
                if not isinstance(row, dict) or not isinstance(row.get(key), kind):
                    raise DataError(f"{table}[{number}] has no usable `{key}`: {row!r:.120}", file)
    for image in content["images"]:
        if image["width"] < 1 or image["height"] < 1:
            raise DataError(f"image {image['file_name']!r:.120} has no size", file)
    return content


def _severities(content: dict[str, Any], classes: Classes, file: Path) -> dict[int, Mapped]:
    """Severity by category id. Only categories that annotations use have to be mapped."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    annotated = {annotation["category_id"] for annotation in content["annotations"]}
    used = sorted(annotated & names.keys())
    mapped = classes.of([names[i] for i in used], file)
    return dict(zip(used, mapped, strict=True))


def _row(annotation: dict[str, Any], severities: dict[int, Mapped], size: Size) -> Row:
    """The accident that one annotation gives, or none, with the faults."""
    category = annotation["category_id"]
    if category not in severities:
        detail = f"category {category}, which `categories` does not name"
        return no_accident("unknown-class", detail)
    severity = severities[category]
    if severity is None:
        return no_accident("ignored-class", f"category {category}")
    corners = annotation.get("bbox")
    polygon_points = 0
    if not corners:
        points = _points(annotation.get("segmentation"))
        if points:
            xs, ys = points[::2], points[1::2]
            corners = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
            polygon_points = len(xs)
    if not isinstance(corners, list) or len(corners) != 4:
        detail = f"bbox {corners!r:.80}, expected [x, y, width, height]"
        return no_accident("malformed-row", detail)
    if not all(map(is_finite, corners)):
        return no_accident("not-a-number", f"bbox {corners!r:.80}")
    x, y, width, height = corners
    box = box_of_pixels(x, y, x + width, y + height, size)
    return accident_of(box, severity, polygon_points)


def _points(segmentation: object) -> list[float]:
    """The coordinates of all polygons of a segmentation, x and y in turn; empty if unusable."""
    if not isinstance(segmentation, list):
        return []
    coordinates: list[Any] = []
    for polygon in segmentation:
        if isinstance(polygon, list):
            coordinates += polygon
    if len(coordinates) < 6 or len(coordinates) % 2:  # a polygon has at least three points
        return []
    numbers = all(isinstance(value, int | float) for value in coordinates)
    return coordinates if numbers else []


def _place(annotation: dict[str, Any], image: dict[str, Any]) -> str:
    """Where an annotation is, in words, because JSON values have no line numbers."""
    return f"annotation {annotation.get('id')!r:.40} of {image['file_name']!r:.120}"


def _image_folders(file: Path, split: str | None, root: Path) -> list[Path]:
    """Where the images may lie, the likeliest first.

    These are: beside Roboflow's file; `images/train2017/` or `train2017/` for COCO's own
    `instances_train2017.json`; the same with the split's name; `images/`; the set's folder.
    """
    folders = []
    if file.name == "_annotations.coco.json":
        folders.append(file.parent)
    if split:
        year = "".join(c for c in file.stem if c.isdecimal())
        names = [split + year, split]
        if split == "val":
            names.append("valid")
        names = list(dict.fromkeys(names))
        folders += [root / "images" / name for name in names]
        folders += [root / name for name in names]
    folders += [root / "images", root]
    return [folder for folder in folders if folder.is_dir()]


def _locate(name: str, folders: Sequence[Path]) -> Path | None:
    """The path of an image; it is only searched below `folders`, whatever its name says."""
    parts = Path(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].startswith("/"):
        return None
    for folder in folders:
        path = folder.joinpath(*parts)
        if path.is_file():
            return path
    return None
