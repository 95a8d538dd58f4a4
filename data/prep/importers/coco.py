"""COCO JSON of a user's own data: `images`, `annotations` and `categories` (cocodataset.org).

A `bbox` is `[x, y, width, height]` in pixels of the size that `images` states; a `segmentation`
without a box is a list of polygons, each `[x1, y1, x2, y2, ...]`, or a mask (`masks`).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime import files
from dat_runtime.errors import DataError
from dat_runtime.fields import is_finite
from dat_runtime.types import Size
from data.prep.importers.classes import Classes, Mapped
from data.prep.importers.coco_files import Pictures, annotation_files, unused_files
from data.prep.importers.faults import Fault
from data.prep.importers.labels import (
    Row,
    accident_of,
    box_of_pixels,
    left_out,
    merged,
    no_accident,
    without_severity,
)
from data.prep.importers.listing import find_files
from data.prep.importers.masks import box_of_mask
from data.prep.importers.picture_size import stated_or_own
from data.prep.importers.source_frame import SUFFIXES, Ids, Scan, SourceFrame
from data.prep.importers.sources import Sources

_MAX_BYTES = 1024**3
Id = int | str


def scan(sources: Sources, classes: Classes, ids: Ids) -> Scan:
    """The frames of every annotation file of the folder."""
    scanned = Scan([], [], {})
    taken: dict[Path, tuple[str, str | None]] = {}
    folders: set[Path] = set()
    for file, split in annotation_files(sources.accidents).items():
        content = AnnotationFile(file, split, sources, classes)
        frames = content.frames(ids, taken)
        scanned.frames.extend(frames)
        scanned.faults.extend(content.faults)
        folders |= content.folders
        if split is not None:
            scanned.published[split] = scanned.published.get(split, 0) + len(frames)
    for file in unused_files(sources.accidents):
        detail = "its pictures come from the other annotation files"
        scanned.faults.append(Fault("other-annotations", sources.name(file), None, detail))
    scanned.faults.extend(_unlisted(folders, taken.keys(), sources))
    return scanned


def _unlisted(folders: set[Path], taken: Any, sources: Sources) -> list[Fault]:
    """A fault for each picture in the folders of listed ones that no annotation file lists."""
    found: dict[Path, None] = {}
    for folder in sorted(folders):
        # Below the set's own folder there may be other sets.
        deep = folder != sources.accidents
        found |= dict.fromkeys(find_files(folder, SUFFIXES, deep=deep).files.values())
    detail = "is listed in no annotation file"
    unlisted = [path for path in found if path not in taken]
    return [Fault("orphan-image", sources.name(path), None, detail) for path in unlisted]


class AnnotationFile:
    """One annotation file, read into frames.

    Attributes:
        faults: what was wrong, filled by `frames`.
        folders: where its pictures were found.

    Raises:
        DataError: it is not COCO JSON, or a class is not mapped.
    """

    def __init__(self, file: Path, split: str | None, sources: Sources, classes: Classes):
        self.file, self.split, self._sources = file, split, sources
        self.name = sources.name(file)
        self._content = _read(file)
        self._severities = _severities(self._content, classes, file)
        self._annotations: dict[Id, list[dict[str, Any]]] = defaultdict(list)
        for annotation in self._content["annotations"]:
            self._annotations[annotation["image_id"]].append(annotation)
        self.faults: list[Fault] = []
        self.folders: set[Path] = set()

    def frames(self, ids: Ids, taken: dict[Path, tuple[str, str | None]]) -> list[SourceFrame]:
        """The frames of the pictures that no earlier file has.

        Args:
            taken: picture -> (annotation file, split); the pictures of this file are added.

        Raises:
            DataError: two files of one split list a picture, so whose boxes count is not known.
        """
        frames = []
        for path, images in self._located().items():
            earlier = taken.setdefault(path, (self.name, self.split))
            file = self._sources.name(path)
            if earlier[0] == self.name:
                frames += self._frame(path, images, ids)
            elif earlier[1] == self.split:
                raise DataError(f"lists {file}, as {earlier[0]} does: leave one out", self.file)
            else:
                detail = f"belongs to {earlier[1]} by {earlier[0]}, to {self.split} by {self.name}"
                self.faults.append(Fault("same-split", file, None, detail))
        return frames

    def _located(self) -> dict[Path, list[dict[str, Any]]]:
        """The entries of each picture that is there, in the file's order."""
        pictures = Pictures(self.file, self.split, self._sources.accidents)
        located: dict[Path, list[dict[str, Any]]] = {}
        unlisted = dict(self._annotations)
        for image in self._content["images"]:
            unlisted.pop(image["id"], None)
            found = pictures.locate(image["file_name"])
            if found is None:
                detail = f"image {image['file_name']!r:.120} does not exist"
                self.faults.append(Fault("orphan-label", self.name, None, detail))
                continue
            self.folders.add(found[1])
            located.setdefault(found[0], []).append(image)
        for image_id, annotations in unlisted.items():
            detail = f"{len(annotations)} annotations of image id {image_id!r:.80}, not listed"
            self.faults.append(Fault("orphan-label", self.name, None, detail))
        return located

    def _frame(
        self, path: Path, images: Sequence[dict[str, Any]], ids: Ids
    ) -> Sequence[SourceFrame]:
        """The frame of a picture with all its entries; none if it is left out."""
        file = self._sources.name(path)
        image = images[0]
        faults = self._entry_faults(images)
        size, size_faults = stated_or_own((image.get("width"), image.get("height")), path)
        faults += [Fault(kind, file, None, detail) for kind, detail in size_faults]
        accidents = ()
        if size is not None:
            annotations: list[dict[str, Any]] = []
            for image_id in dict.fromkeys(entry["id"] for entry in images):
                annotations += self._annotations.get(image_id, [])
            rows = [_row(annotation, self._severities, size) for annotation in annotations]
            places = [_place(annotation, image) for annotation in annotations]
            accidents, row_faults = merged(rows, self.name, places)
            faults += row_faults
        self.faults += faults
        reason = left_out(accidents, faults)
        if reason:
            self.faults.append(Fault(reason[0], file, None, reason[1]))
        if reason or size is None:
            return []
        return [SourceFrame(ids.of(path.stem), self.split, path, file, accidents, declared=size)]

    def _entry_faults(self, images: Sequence[dict[str, Any]]) -> list[Fault]:
        """What is wrong with the entries of one picture, before their boxes are read."""
        names = sorted({image["file_name"] for image in images})
        shared = [image for image in images if len(self._names_of_id[image["id"]]) > 1]
        if shared:
            others = sorted(self._names_of_id[shared[0]["id"]])
            detail = f"id {shared[0]['id']!r:.40} is that of {others!r:.160}"
            return [Fault("same-id", self.name, None, detail)]
        if len(names) > 1:
            return [Fault("same-id", self.name, None, f"{names!r:.200} are one picture")]
        if len(images) == 1:
            return []
        sizes = {(image.get("width"), image.get("height")) for image in images}
        if len(sizes) > 1:
            detail = f"{names[0]!r:.120} is listed with the sizes {sorted(map(str, sizes))}"
            return [Fault("same-id", self.name, None, detail)]
        detail = f"{names[0]!r:.120}: {len(images)} entries"
        return [Fault("listed-twice", self.name, None, detail)]

    @property
    def _names_of_id(self) -> dict[Id, set[str]]:
        return self._content["names_of_id"]


def _read(file: Path) -> dict[str, Any]:
    """The file's tables with ids as `_id` has them, and `names_of_id`: image id -> file names.

    Raises:
        DataError: it is not COCO JSON; names what is missing.
    """
    content = _json(file)
    tables: dict[str, Any] = {}
    for table in ("images", "annotations", "categories"):
        if not isinstance(content.get(table), list):
            raise DataError(f"not COCO JSON: expected a list `{table}`", file)
        tables[table] = content[table]
    for table, keys in (
        ("images", ("id", "file_name")),
        ("annotations", ("image_id", "category_id")),
        ("categories", ("id", "name")),
    ):
        for number, row in enumerate(tables[table]):
            for key in keys:
                value = row.get(key) if isinstance(row, dict) else None
                usable = value if key in ("file_name", "name") else _id(value)
                if key == "category_id" and usable is None and isinstance(row, dict):
                    row[key] = None  # a fault of its picture, see `_row`
                    continue
                if usable is None or isinstance(usable, (list, dict)):
                    raise DataError(f"{table}[{number}] has no usable `{key}`: {row!r:.120}", file)
                row[key] = str(usable) if key in ("file_name", "name") else usable
    names: dict[Id, set[str]] = defaultdict(set)
    for image in tables["images"]:
        names[image["id"]].add(image["file_name"])
    return {**tables, "names_of_id": names}


def _json(file: Path) -> dict[str, Any]:
    content_bytes = files.read_bytes(file, most_bytes=_MAX_BYTES)
    try:
        # Not `files.read_json`: given bytes, json.loads also reads a byte order mark and UTF-16.
        content = json.loads(content_bytes)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", file, getattr(error, "lineno", None)) from None
    return content if isinstance(content, dict) else {}


def _id(value: object) -> Id | None:
    """An id; `"1"`, `1.0` and `1` are one, as exporters write either; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else text
    return value if isinstance(value, int) else None


def _severities(content: dict[str, Any], classes: Classes, file: Path) -> dict[Id, Mapped]:
    """Severity by category id. Only categories that annotations use have to be mapped.

    Raises:
        DataError: two categories have one id, or a class is not mapped.
    """
    names = {category["id"]: category["name"] for category in content["categories"]}
    counts = Counter(category["id"] for category in content["categories"])
    if twice := [f"{i!r:.40}" for i, count in counts.items() if count > 1]:
        raise DataError(f"two categories have the id {', '.join(twice)}", file)
    annotated = {annotation["category_id"] for annotation in content["annotations"]}
    used = sorted(annotated & names.keys(), key=str)
    mapped = classes.of([names[i] for i in used], file)
    return dict(zip(used, mapped, strict=True))


def _row(annotation: dict[str, Any], severities: dict[Id, Mapped], size: Size) -> Row:
    """The accident that one annotation gives, or none, with the faults."""
    category = annotation["category_id"]
    if category is None:
        return no_accident("malformed-row", f"no usable category_id: {annotation!r:.80}")
    if category not in severities:
        detail = f"category {category!r:.40}, which `categories` does not name"
        return no_accident("unknown-class", detail)
    meaning = severities[category]
    row = without_severity(meaning, f"category {category!r:.40}")
    if row:
        return row
    if annotation.get("iscrowd") not in (None, 0, False, "0"):
        return no_accident("crowd-region", f"iscrowd {annotation['iscrowd']!r:.20}")
    corners = annotation.get("bbox")
    points = 0
    if not corners:
        corners, points = _around(annotation.get("segmentation"))
    if not isinstance(corners, list) or len(corners) != 4:
        detail = f"bbox {corners!r:.80}, expected [x, y, width, height]"
        return no_accident("malformed-row", detail)
    if not all(map(is_finite, corners)):
        return no_accident("not-a-number", f"bbox {corners!r:.80}")
    x, y, width, height = map(float, corners)
    box = box_of_pixels(x, y, x + width, y + height, size)
    return accident_of(box, meaning, points)


def _around(segmentation: object) -> tuple[list[float] | None, int]:
    """The box around a segmentation, and its points (a mask has four); None if it is unusable."""
    around = box_of_mask(segmentation)
    if around:
        return [float(value) for value in around], 4
    points = _points(segmentation)
    if not points:
        return None, 0
    xs, ys = points[::2], points[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)], len(xs)


def _points(segmentation: object) -> list[float]:
    """The coordinates of all polygons of a segmentation, x and y in turn; empty if unusable."""
    if not isinstance(segmentation, list):
        return []
    coordinates: list[Any] = []
    for polygon in segmentation:
        coordinates += polygon if isinstance(polygon, list) else [polygon]
    if len(coordinates) < 6 or len(coordinates) % 2:  # a polygon has at least three points
        return []
    return coordinates if all(map(is_finite, coordinates)) else []


def _place(annotation: dict[str, Any], image: dict[str, Any]) -> str:
    """Where an annotation is, in words, because JSON values have no line numbers."""
    return f"annotation {annotation.get('id')!r:.40} of {image['file_name']!r:.120}"
