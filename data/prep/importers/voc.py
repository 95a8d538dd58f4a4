"""Pascal VOC of a user's own data: one XML file an image.

    <annotation>
      <size><width>640</width><height>480</height></size>
      <object><name>crash</name>
        <bndbox><xmin>10</xmin><ymin>20</ymin><xmax>110</xmax><ymax>90</ymax></bndbox></object>
    </annotation>

Other elements are ignored. Corners are taken as edges in pixels, right and bottom exclusive.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from dat_runtime import files
from dat_runtime.errors import DataError
from dat_runtime.fields import is_finite
from dat_runtime.types import Size
from data.prep.importers.classes import Classes, Mapped
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
from data.prep.importers.picture_size import stated_or_own
from data.prep.importers.source_frame import SUFFIXES, Ids, Scan, SourceFrame
from data.prep.importers.sources import Sources, faults_of_files
from data.prep.importers.voc_folders import ImageSets, xml_folders

_MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 16
"""Levels of nested elements; VOC's own files have up to five."""
_XML = frozenset({".xml"})
_ENCODING = re.compile(rb"""<\?xml[^>]{0,80}encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
"""The encoding that an XML declaration states."""
_MULTI_BYTE = frozenset(
    {"gb2312", "gbk", "gb18030", "big5", "big5-hkscs", "shift-jis", "euc-jp", "euc-kr", "cp932"}
    | {"cp936", "cp949", "cp950", "iso-2022-jp"}
)
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

    size: dict[str, str] = field(default_factory=dict)
    faults: list[tuple[str, int | None, str]] = field(default_factory=list)
    """(kind, line, detail) of what stopped the reading."""
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
        DataError: a class is not mapped (lists those that are there), or a list of ImageSets cannot
            be read or contradicts another.
    """
    scanned = Scan([], [], {})
    pairs = list(_pairs(sources, scanned.faults))
    annotations = [_read(pair.xml) for pair in pairs]
    # All files are read first, so that one error lists every class that needs a meaning.
    names = sorted({o.name for annotation in annotations for o in annotation.objects})
    meanings = dict(zip(names, classes.of(names, sources.accidents), strict=True))
    for pair, annotation in zip(pairs, annotations, strict=True):
        if pair.split is not None:
            scanned.published[pair.split] = scanned.published.get(pair.split, 0) + 1
        frame, faults = _frame(pair, annotation, meanings, sources, ids)
        scanned.faults.extend(faults)
        scanned.frames.extend(frame)
    return scanned


def _frame(
    pair: _Pair,
    annotation: _Annotation,
    meanings: Mapping[str, Mapped],
    sources: Sources,
    ids: Ids,
) -> tuple[list[SourceFrame], list[Fault]]:
    """The frame of a pair, none if it is left out, and the faults of its label."""
    file, xml = sources.name(pair.image), sources.name(pair.xml)
    faults = [Fault(kind, xml, line, detail) for kind, line, detail in annotation.faults]
    size, accidents = None, ()
    if not faults:
        stated = annotation.size.get("width"), annotation.size.get("height")
        size, size_faults = stated_or_own(stated, pair.image)
        faults += [Fault(kind, xml, None, detail) for kind, detail in size_faults]
    if size is not None:
        rows = [_row(o, meanings[o.name], size) for o in annotation.objects]
        accidents, row_faults = merged(rows, xml, [o.line for o in annotation.objects])
        faults += row_faults
    reason = left_out(accidents, faults)
    if reason:
        faults.append(Fault(reason[0], file, None, reason[1]))
    if reason or size is None:
        return [], faults
    frame_id = ids.of(pair.image.stem)
    frame = SourceFrame(frame_id, pair.split, pair.image, file, accidents, declared=size)
    return [frame], faults


def _pairs(sources: Sources, faults: list[Fault]) -> Iterator[_Pair]:
    """The images with their XML files; a file without a partner goes to `faults`."""
    image_sets = ImageSets(sources.accidents)
    for folder in xml_folders(sources.accidents):
        together = folder.images == folder.xmls
        images = find_files(folder.images, SUFFIXES, _XML if together else (), folder.deep)
        xmls = find_files(folder.xmls, _XML, SUFFIXES if together else (), folder.deep)
        faults += faults_of_files(images, sources)
        faults += [] if together else faults_of_files(xmls, sources)
        split_of: Mapping[str, str | None] = dict.fromkeys(images.files, folder.split)
        if image_sets and folder.split is None:
            split_of, lost = image_sets.splits(set(images.files))
            for path, line in lost:
                detail = f"names {line!r:.120}, which is not there"
                faults.append(Fault("orphan-label", sources.name(path), None, detail))
        for stem in sorted(images.files.keys() | xmls.files.keys()):
            if stem not in images.files:
                file = sources.name(xmls.files[stem])
                faults.append(Fault("orphan-label", file, None, "has no image"))
            elif stem not in xmls.files:
                file = sources.name(images.files[stem])
                faults.append(Fault("orphan-image", file, None, "has no XML file"))
            elif stem not in split_of:
                file = sources.name(images.files[stem])
                faults.append(Fault("orphan-image", file, None, "is in no list of ImageSets"))
            else:
                yield _Pair(split_of[stem], images.files[stem], xmls.files[stem])


def _read(path: Path) -> _Annotation:
    """Read an XML file by events, so that lines are known. A document type is refused.

    Without one there are no entities, which let a small file expand to gigabytes or read others.
    """
    try:
        content = files.read_bytes(path, most_bytes=_MAX_BYTES)
        return _parsed(*_in_known_encoding(content))
    except _UnreadableError as error:
        return _Annotation(faults=[("unreadable-label", error.line, str(error))])
    except DataError as error:
        detail = str(error).removeprefix(f"{path}: ")
        return _Annotation(faults=[("unreadable-label", None, detail)])


class _UnreadableError(Exception):
    """An XML file that gives nothing; `line` counts from 1."""

    def __init__(self, message: str, line: int | None = None):
        super().__init__(message)
        self.line = line


def _in_known_encoding(content: bytes) -> tuple[bytes, str | None]:
    """The content, and the encoding that replaces the one which it states; None: as stated.

    expat itself reads UTF-8, UTF-16 and any of one byte a character. Tools in East Asia write
    others, which Python reads.
    """
    stated = _ENCODING.match(content)
    name = stated.group(1).decode("ascii").lower().replace("_", "-") if stated else ""
    if name not in _MULTI_BYTE:
        return content, None
    try:
        return content.decode(name).encode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        raise _UnreadableError(f"is not {name}, the encoding that it states", 1) from None


def _parsed(content: bytes, encoding: str | None) -> _Annotation:
    """The annotation in an XML text.

    Raises:
        _UnreadableError: it is not XML, has a document type or is nested too deeply.
    """
    parser = expat.ParserCreate(encoding)
    annotation = _Annotation()
    open_tags: list[str] = []

    def start(tag: str, _: dict[str, str]) -> None:
        if len(open_tags) > _MAX_DEPTH:
            raise _UnreadableError("nested too deeply", parser.CurrentLineNumber)
        if not open_tags and tag != "annotation":
            raise _UnreadableError(f"not VOC: <{tag:.40}>, expected <annotation>", 1)
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
        raise _UnreadableError("a document type is not allowed", parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: open_tags.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        message = f"not XML: {expat.ErrorString(error.code)}"
        raise _UnreadableError(message, error.lineno) from None
    except (LookupError, ValueError) as error:  # an encoding that is unknown, or of several bytes
        raise _UnreadableError(f"in an encoding that cannot be read: {error}", 1) from None
    return annotation


def _row(labelled: _Object, meaning: Mapped, size: Size) -> Row:
    """The accident that one `<object>` gives, or none, with the faults."""
    row = without_severity(meaning, repr(labelled.name)[:80])
    if row:
        return row
    detail = f"bndbox {labelled.corners!r:.120}"
    if missing := [key for key in _CORNERS if not labelled.corners.get(key)]:
        return no_accident("malformed-row", f"{detail} lacks {', '.join(missing)}")
    try:
        edges = [float(labelled.corners[key]) for key in _CORNERS]
    except ValueError:
        return no_accident("not-a-number", detail)
    if not all(map(is_finite, edges)):
        return no_accident("not-a-number", detail)
    x1, y1, x2, y2 = edges
    return accident_of(box_of_pixels(x1, y1, x2, y2, size), meaning)
