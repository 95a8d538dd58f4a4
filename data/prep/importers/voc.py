"""Pascal VOC of a user's own data: one XML file an image."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from dat_runtime.errors import DataError
from dat_runtime.types import Accident, Size
from data.prep.importers.classes import Classes, Mapped
from data.prep.importers.faults import Fault
from data.prep.importers.labels import accident_of, box_of_pixels, merged
from data.prep.importers.source_frame import SUFFIXES, Ids, Scan, SourceFrame, by_stem
from data.prep.importers.sources import SPLITS, Sources

_MAX_BYTES = 1024 * 1024
_XML = frozenset({".xml"})


@dataclass
class _Object:
    line: int
    name: str = ""
    corners: dict[str, str] = field(default_factory=dict)


@dataclass
class _Annotation:
    path: Path
    size: dict[str, str] = field(default_factory=dict)
    objects: list[_Object] = field(default_factory=list)


def scan(sources: Sources, classes: Classes, ids: Ids) -> Scan:
    """The frames of every XML file.

    Raises:
        DataError: a class is not mapped (lists those that are there), or a file is not VOC XML.
    """
    frames: list[SourceFrame] = []
    faults: list[Fault] = []
    published: dict[str, int] = {}
    pairs = list(_pairs(sources, faults))
    read = [_read(xml) for _, _, xml in pairs]
    names = sorted({o.name for annotation in read for o in annotation.objects})
    meaning = dict(zip(names, classes.of(names, sources.accidents), strict=True))
    for (split, image, xml), annotation in zip(pairs, read, strict=True):
        if split is not None:
            published[split] = published.get(split, 0) + 1
        size = _size(annotation)
        rows = [_row(o, meaning, size) for o in annotation.objects]
        accidents, found = merged(rows, sources.name(xml), [o.line for o in annotation.objects])
        faults += found
        if not accidents and any(f.kind == "near-zero-box" for f in found):
            faults.append(Fault("no-usable-box", sources.name(image), None, "no box is usable"))
            continue
        name = sources.name(image)
        frames.append(SourceFrame(ids.of(image.stem), split, image, name, accidents, declared=size))
    return Scan(frames, faults, published)


def _pairs(sources: Sources, faults: list[Fault]) -> Iterator[tuple[str | None, Path, Path]]:
    """Split, image and XML file of each frame; what has no partner goes to `faults`."""
    root = sources.accidents
    if (root / "Annotations").is_dir():
        split_of = _listed(root)
        folders = [(None, root / "JPEGImages", root / "Annotations")]
    else:
        split_of = {}
        folders = [(split, *[sources.accident_folder(split)] * 2) for split in SPLITS]
    for split, image_folder, xml_folder in folders:
        if not image_folder.is_dir():
            continue
        beside = _XML if image_folder == xml_folder else ()
        images, stray = by_stem(image_folder, SUFFIXES, sources, beside)
        labels, more = by_stem(xml_folder, _XML, sources, SUFFIXES if beside else ())
        faults += stray + more
        for stem in sorted(images.keys() | labels.keys()):
            if stem not in images:
                file = sources.name(labels[stem])
                faults.append(Fault("orphan-label", file, None, "has no image"))
            elif stem not in labels or (split_of and stem not in split_of):
                detail = "has no XML file" if stem not in labels else "is in no list of ImageSets"
                faults.append(Fault("orphan-image", sources.name(images[stem]), None, detail))
            else:
                yield split or split_of.get(stem), images[stem], labels[stem]


def _listed(root: Path) -> dict[str, str]:
    """Split by stem, of ImageSets/Main/{train,val,test}.txt; empty where there are none."""
    split_of = {}
    for split in SPLITS:
        file = root / "ImageSets" / "Main" / f"{split}.txt"
        if file.is_file():
            for line in file.read_text("utf-8-sig", errors="replace").splitlines():
                if line.strip():
                    split_of[line.split()[0]] = split
    return split_of


def _read(path: Path) -> _Annotation:
    """Streamed, so that lines are known; a document type, and with it entities, is refused.

    Raises:
        DataError: names the line.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"over {_MAX_BYTES >> 20} MiB", path)
    parser = expat.ParserCreate()
    annotation = _Annotation(path)
    stack: list[str] = []

    def start(tag: str, _: dict[str, str]) -> None:
        if len(stack) > 16:
            raise DataError("nested too deep", path, parser.CurrentLineNumber)
        stack.append(tag)
        if stack == ["annotation", "object"]:
            annotation.objects.append(_Object(parser.CurrentLineNumber))

    def text(data: str) -> None:
        match stack:
            case ["annotation", "size", key]:
                annotation.size[key] = annotation.size.get(key, "") + data.strip()
            case ["annotation", "object", "name"]:
                annotation.objects[-1].name += data
            case ["annotation", "object", "bndbox", key]:
                corners = annotation.objects[-1].corners
                corners[key] = corners.get(key, "") + data.strip()

    def refuse(*_: Any) -> None:
        raise DataError("a document type is refused", path, parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise DataError(f"not XML: {expat.ErrorString(error.code)}", path, error.lineno) from None
    return annotation


def _size(annotation: _Annotation) -> Size:
    try:
        return Size(int(annotation.size["width"]), int(annotation.size["height"]))
    except (KeyError, ValueError):
        raise DataError(f"no usable <size>: {annotation.size}", annotation.path) from None


def _row(
    found: _Object, meaning: dict[str, Mapped], size: Size
) -> tuple[Accident | None, list[tuple[str, str]]]:
    severity = meaning[found.name]
    if severity is None:
        return None, [("ignored-class", found.name)]
    if found.corners.keys() < {"xmin", "ymin", "xmax", "ymax"}:
        return None, [("malformed-row", f"bndbox {found.corners!r:.120}")]
    try:
        edges = [float(found.corners[key]) for key in ("xmin", "ymin", "xmax", "ymax")]
    except (KeyError, ValueError):
        return None, [("not-a-number", f"bndbox {found.corners!r:.120}")]
    if not all(abs(edge) < float("inf") for edge in edges):
        return None, [("not-a-number", f"bndbox {found.corners!r:.120}")]
    return accident_of(box_of_pixels(*edges, size), severity, [])
