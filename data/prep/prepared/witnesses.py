"""Pictures that the source calls accidents without saying where: they only testify.

The CCTV set has them in `Accident`, beside the accident-free frames in `Non Accident`. They have
no boxes, so they are no part of a set. But a picture that lies under both names is not
accident-free for certain (`splitting.conflicts`).
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.prep.importers.listing import entries
from data.prep.importers.source_frame import SUFFIXES, SourceFrame
from data.prep.importers.sources import Sources
from data.prep.importers.split_names import split_named
from data.prep.pictures.prepare import Prepared
from data.prep.prepared.kept import Kept

_NAMES = frozenset({"accident", "accidents"})
"""The folder's name, in letters only."""


def find(negatives: Sequence[SourceFrame], sources: Sources) -> list[SourceFrame]:
    """The pictures in the folders `Accident` of the negatives' set, in all its splits."""
    parents = {frame.path.parent.parent for frame in negatives}
    for parent in sorted(parents):
        if split_named(parent.name):  # another split may have accidents only
            parents |= {path for path in entries(parent.parent) if split_named(path.name)}
    frames = []
    for parent in sorted(parents):
        for path in _pictures_in(parent):
            frames.append(SourceFrame(path.stem, None, path, sources.name(path)))
    return frames


def _pictures_in(parent: Path) -> Iterator[Path]:
    for folder in entries(parent) if parent.is_dir() else ():
        if re.sub(r"[^a-z]", "", folder.name.casefold()) in _NAMES and folder.is_dir():
            yield from (path for path in sorted(folder.iterdir()) if _is_picture(path))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def usable(
    frames: Sequence[SourceFrame],
    pictures: Sequence[Prepared],
    contents: Sequence[str],
    first_position: int,
) -> list[Kept]:
    """Those whose picture can be compared; the first has the number `first_position`."""
    records = []
    for number, frame in enumerate(frames):
        if pictures[number].size is not None:
            position = first_position + number
            records.append(Kept(frame, pictures[number], contents[number], position))
    return records
