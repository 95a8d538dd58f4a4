"""COCO JSON of a user's own data: `images`, `annotations` and `categories`."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.errors import DataError
from dat_runtime.types import Accident, Size
from data.prep.importers.classes import Classes, Mapped
from data.prep.importers.faults import Fault
from data.prep.importers.labels import accident_of, box_of_pixels, merged
from data.prep.importers.source_frame import SUFFIXES, Ids, Scan, SourceFrame
from data.prep.importers.sources import Sources, annotation_files

_MAX_BYTES = 1024**3


def scan(sources: Sources, classes: Classes, ids: Ids) -> Scan:
    """The frames of every annotation file of the folder."""
    frames: list[SourceFrame] = []
    faults: list[Fault] = []
    published: dict[str, int] = {}
    for file, split in annotation_files(sources.accidents).items():
        found, wrong = _of_file(file, split, sources, classes, ids)
        frames += found
        faults += wrong
        if split is not None:
            published[split] = published.get(split, 0) + len(found)
    return Scan(frames, faults, published)


def _of_file(
    file: Path, split: str | None, sources: Sources, classes: Classes, ids: Ids
) -> tuple[list[SourceFrame], list[Fault]]:
    content = _read(file)
    name = sources.name(file)
    meaning = _meaning(content, classes, file)
    by_image = defaultdict(list)
    for annotation in content["annotations"]:
        by_image[annotation.get("image_id")].append(annotation)
    folders = _image_folders(file, split, sources.accidents)
    frames, faults, used = [], [], set()
    for image in content["images"]:
        path = _locate(image["file_name"], folders)
        annotations = by_image.pop(image["id"], [])
        if path is None:
            detail = f"image {image['file_name']!r:.120} is not there"
            faults.append(Fault("orphan-label", name, None, detail))
            continue
        if path in used:
            detail = f"image {image['file_name']!r:.120} is listed twice"
            faults.append(Fault("same-name", name, None, detail))
            continue
        used.add(path)
        size = Size(image["width"], image["height"])
        rows = [_row(a, meaning, size) for a in annotations]
        accidents, found = merged(rows, name, [_place(a, image) for a in annotations])
        faults += found
        if not accidents and any(f.kind == "near-zero-box" for f in found):
            faults.append(Fault("no-usable-box", sources.name(path), None, "no box is usable"))
            continue
        stem = ids.of(path.stem)
        frames.append(SourceFrame(stem, split, path, sources.name(path), accidents, declared=size))
    for image_id, annotations in by_image.items():
        detail = f"{len(annotations)} annotations of image id {image_id!r:.80}, which is not listed"
        faults.append(Fault("orphan-label", name, None, detail))
    for path in sorted(p for folder in folders[:1] for p in folder.iterdir()):
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
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", file, getattr(error, "lineno", None)) from None
    needed = {
        "images": (("id", (int, str)), ("file_name", str), ("width", int), ("height", int)),
        "annotations": (("image_id", (int, str)), ("category_id", int)),
        "categories": (("id", int), ("name", str)),
    }
    for table, columns in needed.items():
        rows = content.get(table) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise DataError(f"not COCO JSON: expected a list `{table}`", file)
        for number, row in enumerate(rows):
            for key, kind in columns:
                if not isinstance(row, dict) or not isinstance(row.get(key), kind):
                    raise DataError(f"{table}[{number}] has no usable `{key}`: {row!r:.120}", file)
    if bad := [i for i in content["images"] if min(i["width"], i["height"]) < 1]:
        raise DataError(f"image {bad[0]['file_name']!r:.120} has no size", file)
    return content


def _meaning(content: dict[str, Any], classes: Classes, file: Path) -> dict[int, Mapped]:
    """Severity by category id; only categories that annotations use have to be mapped."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    used = sorted({a["category_id"] for a in content["annotations"]} & names.keys())
    mapped = classes.of([names[i] for i in used], file)
    return dict(zip(used, mapped, strict=True))


def _row(
    annotation: dict[str, Any], meaning: dict[int, Mapped], size: Size
) -> tuple[Accident | None, list[tuple[str, str]]]:
    category = annotation["category_id"]
    if category not in meaning:
        return None, [("unknown-class", f"category {category}, which `categories` does not name")]
    severity = meaning[category]
    if severity is None:
        return None, [("ignored-class", f"category {category}")]
    corners, found = annotation.get("bbox"), []
    if not corners and (points := _points(annotation.get("segmentation"))):
        x, y = min(points[::2]), min(points[1::2])
        corners = [x, y, max(points[::2]) - x, max(points[1::2]) - y]
        found = [("polygon-row", f"{len(points) // 2} points")]
    if not isinstance(corners, list) or len(corners) != 4:
        return None, [("malformed-row", f"bbox {corners!r:.80}, expected [x, y, width, height]")]
    if not all(isinstance(n, int | float) and abs(n) < float("inf") for n in corners):
        return None, [("not-a-number", f"bbox {corners!r:.80}")]
    x, y, width, height = corners
    box = box_of_pixels(x, y, x + width, y + height, size)
    return accident_of(box, severity, found)


def _points(segmentation: object) -> list[float]:
    """The coordinates of all polygons of a segmentation, x and y in turn."""
    if not isinstance(segmentation, list):
        return []
    flat = [n for polygon in segmentation if isinstance(polygon, list) for n in polygon]
    good = all(isinstance(n, int | float) for n in flat) and len(flat) % 2 == 0
    return flat if good and len(flat) >= 6 else []


def _place(annotation: dict[str, Any], image: dict[str, Any]) -> str:
    return f"annotation {annotation.get('id')!r:.40} of {image['file_name']!r:.120}"


def _image_folders(file: Path, split: str | None, root: Path) -> list[Path]:
    """Where the images may lie, the likeliest first."""
    folders = [file.parent] if file.name == "_annotations.coco.json" else []
    if split:
        year = "".join(c for c in file.stem if c.isdecimal())
        names = dict.fromkeys((split + year, split, "valid" if split == "val" else split))
        folders += [root / "images" / name for name in names] + [root / name for name in names]
    folders += [root / "images", root]
    return [folder for folder in folders if folder.is_dir()]


def _locate(name: str, folders: Sequence[Path]) -> Path | None:
    """The image, looked for below `folders` only, whatever the name says."""
    parts = Path(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].startswith("/"):
        return None
    found = [folder.joinpath(*parts) for folder in folders]
    return next((path for path in found if path.is_file()), None)
