"""Where a Pascal VOC set keeps pictures and XML files, as the tools that export it write it.

VOC, CVAT        JPEGImages/, Annotations/, ImageSets/Main/<split>.txt
Label Studio     images/, Annotations/
FiftyOne         data/, labels/, also in each split
Roboflow         <split>/ with pictures and XML files side by side
by hand          images/ and annotations/, also with splits below; or all in one folder
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dat_runtime import files
from dat_runtime.errors import DataError
from dat_runtime.truth import SPLITS
from data.prep.importers.listing import by_folded_name, entries, is_leftover
from data.prep.importers.source_frame import SUFFIXES
from data.prep.importers.split_names import split_folders, split_named

_MAX_LIST_BYTES = 64 * 1024 * 1024
_PAIRS = (
    ("jpegimages", "annotations"),
    ("images", "annotations"),
    ("data", "labels"),
    ("images", "labels"),
    ("images", "xmls"),
)
"""Folders of pictures and of XML files, in small letters."""


class XmlFolder(NamedTuple):
    """A folder of pictures with the folder of their XML files, which may be the same.

    Attributes:
        split: None where folders state none; `ImageSets` may state it by name then.
    """

    split: str | None
    images: Path
    xmls: Path

    @property
    def deep(self) -> bool:
        """Whether folders below count: not where all lies in one folder of the source."""
        return self.images != self.xmls


def xml_folders(root: Path) -> list[XmlFolder]:
    """The folders of a VOC set; none if there is no such set.

    Raises:
        DataError: two folders are of one split.
    """
    found = _in_splits(root)
    if found:
        return found
    pair = _pair(root)
    if pair is None:
        return []
    if pair[0] == pair[1]:
        return [XmlFolder(None, *pair)]
    below = split_folders(pair[0])
    xmls = split_folders(pair[1])
    if below.keys() & xmls.keys():
        return [XmlFolder(s, below[s], xmls[s]) for s in SPLITS if s in below and s in xmls]
    return [XmlFolder(None, *pair)]


def _in_splits(root: Path) -> list[XmlFolder]:
    folders = split_folders(root, _pair)
    found = []
    for split in SPLITS:
        pair = _pair(folders[split]) if split in folders else None
        if pair is not None:
            found.append(XmlFolder(split, *pair))
    return found


def _pair(folder: Path) -> tuple[Path, Path] | None:
    """The folders of pictures and XML files directly in a folder, or the folder itself as both."""
    named = by_folded_name(folder)
    for images, xmls in _PAIRS:
        if images in named and xmls in named and _holds(named[xmls], _is_xml):
            return named[images], named[xmls]
    if _holds(folder, _is_xml, 0) and _holds(folder, _is_picture, 0):
        return folder, folder
    return None


def _holds(folder: Path, wanted: Callable[[Path], bool], depth: int = 2) -> bool:
    """Whether a file is in a folder, or at most so many folders below."""
    if not folder.is_dir():
        return False
    paths = [path for path in entries(folder) if not is_leftover(path)]
    if any(map(wanted, paths)):
        return True
    return depth > 0 and any(_holds(path, wanted, depth - 1) for path in paths)


def _is_xml(path: Path) -> bool:
    return path.suffix.lower() == ".xml"


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


class ImageSets:
    """The split of each picture by `ImageSets/Main/<split>.txt`.

    A line is a name, `name 1` in the lists of a class, or `"a name"` as Datumaro writes spaces.

    Raises:
        DataError: a list cannot be read.
    """

    def __init__(self, root: Path):
        self._lists: dict[str, tuple[Path, list[str]]] = {}
        folder = root / "ImageSets" / "Main"
        for path in entries(folder) if folder.is_dir() else []:
            split = split_named(path.stem)
            if split is None or path.suffix.lower() != ".txt" or is_leftover(path):
                continue
            if split in self._lists:
                raise DataError(f"is of the split {split}, as {self._lists[split][0].name}", path)
            content = files.read_bytes(path, DataError, most_bytes=_MAX_LIST_BYTES)
            text = content.decode("utf-8-sig", errors="replace")
            self._lists[split] = path, [line.strip() for line in text.splitlines() if line.strip()]

    def __bool__(self) -> bool:
        return bool(self._lists)

    def splits(self, stems: set[str]) -> tuple[dict[str, str], list[tuple[Path, str]]]:
        """Stem -> split, and (list, line) of each line that names no picture.

        Raises:
            DataError: a picture is in the lists of two splits.
        """
        split_of: dict[str, str] = {}
        lost = []
        for split in SPLITS:
            path, lines = self._lists.get(split, (Path(), []))
            for line in lines:
                stem = _named(line, stems)
                if stem is None:
                    lost.append((path, line))
                elif split_of.setdefault(stem, split) != split:
                    raise DataError(f"names {stem!r:.120}, as the list of {split_of[stem]}", path)
        return split_of, lost


def _named(line: str, stems: set[str]) -> str | None:
    """The stem that a line names."""
    plain = line.strip('"')
    head = plain.rsplit(maxsplit=1)
    candidates = [plain]
    if len(head) == 2 and head[1] in ("1", "0", "-1"):
        candidates.append(head[0].strip('"'))
    for name in candidates:
        if name in stems:
            return name
        without_suffix = name.rsplit(".", 1)[0]
        if without_suffix in stems:
            return without_suffix
    return None
