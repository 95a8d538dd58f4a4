"""Pascal VOC of a user's own data: one XML file an image.

    <annotation>
      <size><width>640</width><height>480</height></size>
      <object><name>crash</name>
        <bndbox><xmin>10</xmin><ymin>20</ymin><xmax>110</xmax><ymax>90</ymax></bndbox></object>
    </annotation>

Other elements are ignored. Corners are taken as edges in pixels, right and bottom exclusive.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from dat_runtime import files
from dat_runtime.errors import DataError
from dat_runtime.fields import is_finite
from dat_runtime.truth import SPLITS
from dat_runtime.types import Size
from data.prep.importers.classes import Classes, Mapped
from data.prep.importers.faults import Fault
from data.prep.importers.labels import Row, accident_of, box_of_pixels, merged, no_accident
from data.prep.importers.source_frame import (
    SUFFIXES,
    Ids,
    Scan,
    SourceFrame,
    by_stem,
    left_without_boxes,
)
from data.prep.importers.sources import Sources

_MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 16
"""Levels of nested elements; VOC's own files have up to five."""
_XML = frozenset({".xml"})
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class _Object:
    """An `<object>`, as text."""

    line: int
    name: str = ""
    corners: dict[str, str] = field(default_factory=dict)


@dataclass
class _Annotation:
    """An XML file, as text."""

    path: Path
    size: dict[str, str] = field(default_factory=dict)
    objects: list[_Object] = field(default_factory=list)


@dataclass(frozen=True)
class _Pair:
    """An image and its XML file."""

    split: str | None
    image: Path
    xml: Path


def scan(sources: Sources, classes: Classes, ids: Ids) -> Scan:
    """The frames of every XML file.

    Raises:
        DataError: a class is not mapped (lists those that are there), or a file is not VOC XML.
    """
    frames: list[SourceFrame] = []
    faults: list[Fault] = []
    published: dict[str, int] = {}
    pairs = list(_pairs(sources, faults))
    annotations = [_read(pair.xml) for pair in pairs]
    # All files are read first, so that one error lists every class that needs a meaning.
    class_names = {o.name for annotation in annotations for o in annotation.objects}
    names = sorted(class_names)
    severities = dict(zip(names, classes.of(names, sources.accidents), strict=True))
    for pair, annotation in zip(pairs, annotations, strict=True):
        if pair.split is not None:
            published[pair.split] = published.get(pair.split, 0) + 1
        size = _size(annotation)
        rows = [_row(o, severities[o.name], size) for o in annotation.objects]
        lines = [o.line for o in annotation.objects]
        accidents, row_faults = merged(rows, sources.name(pair.xml), lines)
        faults += row_faults
        file = sources.name(pair.image)
        if left_without_boxes(accidents, row_faults):
            faults.append(Fault("no-usable-box", file, None, "no box is usable"))
            continue
        frame_id = ids.of(pair.image.stem)
        frames.append(SourceFrame(frame_id, pair.split, pair.image, file, accidents, declared=size))
    return Scan(frames, faults, published)


def _pairs(sources: Sources, faults: list[Fault]) -> Iterator[_Pair]:
    """The images with their XML files; a file without a partner goes to `faults`."""
    root = sources.accidents
    if (root / "Annotations").is_dir():
        images = root / "JPEGImages"
        if images.is_dir():
            split_of = _image_sets(root)
            yield from _pairs_in(images, root / "Annotations", split_of, sources, faults)
        return
    for split in SPLITS:
        folder = sources.accident_folder(split)
        if folder.is_dir():
            yield from _pairs_in(folder, folder, split, sources, faults)


def _pairs_in(
    image_folder: Path,
    xml_folder: Path,
    splits: str | dict[str, str],
    sources: Sources,
    faults: list[Fault],
) -> Iterator[_Pair]:
    """The pairs of an image folder and an XML folder, which may be the same folder.

    Args:
        splits: the split of all pairs, or the split by stem; empty if the source has no splits.
    """
    together = image_folder == xml_folder
    images, stray_images = by_stem(image_folder, SUFFIXES, sources, _XML if together else ())
    xmls, stray_xmls = by_stem(xml_folder, _XML, sources, SUFFIXES if together else ())
    faults += stray_images + stray_xmls
    for stem in sorted(images.keys() | xmls.keys()):
        if stem not in images:
            faults.append(Fault("orphan-label", sources.name(xmls[stem]), None, "has no image"))
        elif stem not in xmls:
            file = sources.name(images[stem])
            faults.append(Fault("orphan-image", file, None, "has no XML file"))
        elif isinstance(splits, str):
            yield _Pair(splits, images[stem], xmls[stem])
        elif splits and stem not in splits:
            file = sources.name(images[stem])
            faults.append(Fault("orphan-image", file, None, "is in no list of ImageSets"))
        else:
            yield _Pair(splits.get(stem), images[stem], xmls[stem])


def _image_sets(root: Path) -> dict[str, str]:
    """Split by stem, from ImageSets/Main/{train,val,test}.txt; empty without these files."""
    split_of = {}
    for split in SPLITS:
        file = root / "ImageSets" / "Main" / f"{split}.txt"
        if file.is_file():
            for line in file.read_text("utf-8-sig", errors="replace").splitlines():
                if line.strip():
                    split_of[line.split()[0]] = split
    return split_of


def _read(path: Path) -> _Annotation:
    """Read an XML file by events, so that lines are known. A document type is refused.

    Without one there are no entities, which let a small file expand to gigabytes or read others.

    Raises:
        DataError: the file is too large or is not VOC XML; names the line.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"over {_MAX_BYTES >> 20} MiB", path)
    parser = expat.ParserCreate()
    annotation = _Annotation(path)
    open_tags: list[str] = []

    def start(tag: str, _: dict[str, str]) -> None:
        if len(open_tags) > _MAX_DEPTH:
            raise DataError("nested too deeply", path, parser.CurrentLineNumber)
        open_tags.append(tag)
        if open_tags == ["annotation", "object"]:
            annotation.objects.append(_Object(parser.CurrentLineNumber))

    def text(data: str) -> None:
        # expat may hand over the text of one element in several parts.
        match open_tags:
            case ["annotation", "size", key]:
                annotation.size[key] = annotation.size.get(key, "") + data.strip()
            case ["annotation", "object", "name"]:
                annotation.objects[-1].name += data
            case ["annotation", "object", "bndbox", key]:
                corners = annotation.objects[-1].corners
                corners[key] = corners.get(key, "") + data.strip()

    def refuse(*_: Any) -> None:
        raise DataError("a document type is not allowed", path, parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: open_tags.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    content = files.read_bytes(path)  # bytes, as the XML declaration states the encoding
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise DataError(f"not XML: {expat.ErrorString(error.code)}", path, error.lineno) from None
    return annotation


def _size(annotation: _Annotation) -> Size:
    try:
        return Size(int(annotation.size["width"]), int(annotation.size["height"]))
    except (KeyError, ValueError):
        raise DataError(f"no usable <size>: {annotation.size}", annotation.path) from None


def _row(labelled: _Object, severity: Mapped, size: Size) -> Row:
    """The accident that one `<object>` gives, or none, with the faults."""
    if severity is None:
        return no_accident("ignored-class", labelled.name)
    detail = f"bndbox {labelled.corners!r:.120}"
    if labelled.corners.keys() < set(_CORNERS):
        return no_accident("malformed-row", detail)
    try:
        edges = [float(labelled.corners[key]) for key in _CORNERS]
    except (KeyError, ValueError):
        return no_accident("not-a-number", detail)
    if not all(map(is_finite, edges)):
        return no_accident("not-a-number", detail)
    x1, y1, x2, y2 = edges
    return accident_of(box_of_pixels(x1, y1, x2, y2, size), severity)
