"""One frame of a source in any layout, its id, and the files that it is made from."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dat_runtime.types import Accident, Size, highest_severity
from data.prep.importers.faults import Fault
from data.prep.importers.sources import Sources

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
"""The suffixes of image files; `pictures.decode` then judges the content."""
NEGATIVE = "negative"
"""The stratum of the accident-free frames of the CCTV set, and the beginning of their ids."""

_ROBOFLOW = re.compile(r"(?:_(?:jpe?g|png|bmp|webp|tiff?))?\.rf\.[0-9A-Za-z]{8,}$", re.IGNORECASE)
"""What Roboflow appends to the name of an exported image: `street.jpg` becomes
`street_jpg.rf.<digest>.jpg`. Each augmented copy has a different digest."""
_FRAME_NUMBER = re.compile(r"^(.*?[^\d _.()-].*?|\d+)[ _.(-]+\d+")
"""A clip's name and a frame's number: `test12_34`, `acc1 (5)`, `5_0005_g34`. The clip's
name has letters or is one number. A file name that is only one number states no clip."""


def stratum_of(accidents: Sequence[Accident]) -> str:
    """The highest severity of a frame; `empty` where it has no accident."""
    severity = highest_severity([a.severity for a in accidents])
    return "empty" if severity == "none" else severity


@dataclass(frozen=True)
class SourceFrame:
    """An image of the source. Boxes are in `labels.UNIT`, of the upright picture."""

    id: str
    split: str | None
    """train, val or test as published; None where the source has no splits."""
    path: Path
    file: str
    """The path as it appears in reports, see `Sources.name`."""
    accidents: tuple[Accident, ...] = ()
    negative: bool = False
    """Whether it comes from the accident-free frames of the CCTV set."""
    declared: Size | None = None
    """The picture's size as the labels state it, where their boxes depend on it."""

    @property
    def stratum(self) -> str:
        """What splits are balanced over: the highest severity, `empty`, or `negative`."""
        return NEGATIVE if self.negative else stratum_of(self.accidents)

    @property
    def original(self) -> str | None:
        """The name of the image that this one is an augmented copy of, by Roboflow's names."""
        stem = _ROBOFLOW.sub("", self.path.stem)
        return stem if stem != self.path.stem else None

    @property
    def clip(self) -> str | None:
        """The clip by the frame's name, `<clip>_<frame number>...`; None where it names none."""
        match = _FRAME_NUMBER.match(_ROBOFLOW.sub("", self.path.stem))
        return match.group(1).casefold() if match else None


class Ids:
    """Gives ids that differ by more than case, and are safe as file names and in messages."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, stem: str) -> str:
        """An id for the file of that stem; the second of a name gets `-2`, and so on."""
        base = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")[:100] or "frame"
        name = base
        number = 2
        while name.lower() in self._taken:
            name = f"{base}-{number}"
            number += 1
        self._taken.add(name.lower())
        return name


@dataclass(frozen=True)
class Scan:
    """The labelled frames of a source, and what was wrong with their files."""

    frames: list[SourceFrame]
    faults: list[Fault]
    published: dict[str, int]
    """Images in each split; empty where the source has no splits."""


def by_stem(
    folder: Path, suffixes: frozenset[str], sources: Sources, ignored: Iterable[str] = ()
) -> tuple[dict[str, Path], list[Fault]]:
    """Files by stem, in the order of their names, and faults for all else in the folder.

    Files with a suffix in `ignored` are in neither.
    """
    files: dict[str, Path] = {}
    faults = []
    for path in sorted(folder.iterdir()):
        name = sources.name(path)
        suffix = path.suffix.lower()
        if path.is_file() and suffix in ignored:
            continue
        if not path.is_file() or suffix not in suffixes:
            detail = "not one of " + " ".join(sorted(suffixes))
            faults.append(Fault("stray-file", name, None, detail))
        elif path.stem in files:
            # A label file cannot state which of two images with its name it describes.
            faults.append(Fault("same-name", name, None, f"beside {files[path.stem].name}"))
        else:
            files[path.stem] = path
    return files, faults


def left_without_boxes(accidents: Sequence[Accident], faults: Sequence[Fault]) -> bool:
    """Whether all boxes of a frame were dropped as too small.

    Its label states an accident, so it must not become an accident-free frame.
    """
    return not accidents and any(fault.kind == "near-zero-box" for fault in faults)
