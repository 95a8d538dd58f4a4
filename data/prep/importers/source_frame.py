"""One frame of a source, whatever the layout that it was found in."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dat_runtime.types import Accident, Size, highest_severity
from data.prep.importers.faults import Fault
from data.prep.importers.sources import Sources

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
NEGATIVE = "negative"
_ROBOFLOW = re.compile(r"(?:_(?:jpe?g|png|bmp|webp|tiff?))?\.rf\.[0-9A-Za-z]{8,}$", re.IGNORECASE)
_FRAME_NUMBER = re.compile(r"^(.*?[^\d _.()-].*?|\d+)[ _.(-]+\d+")


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
    accidents: tuple[Accident, ...] = ()
    negative: bool = False
    """Whether it comes from the accident-free frames of the CCTV set."""
    declared: Size | None = None
    """The picture's size as the labels tell it, where their boxes hang on it."""

    @property
    def stratum(self) -> str:
        """What a split is balanced over."""
        return NEGATIVE if self.negative else stratum_of(self.accidents)

    @property
    def original(self) -> str | None:
        """The image that this is an augmented copy of, by Roboflow's name for copies."""
        stem = _ROBOFLOW.sub("", self.path.stem)
        return stem if stem != self.path.stem else None

    @property
    def clip(self) -> str | None:
        """The clip by the frame's name, `<clip>_<frame number>...`; None where it names none."""
        found = _FRAME_NUMBER.match(_ROBOFLOW.sub("", self.path.stem))
        return found.group(1).casefold() if found else None


class Ids:
    """Gives ids that are unique without regard to case, and safe as file names and in messages."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, stem: str) -> str:
        base = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")[:100] or "frame"
        name, number = base, 2
        while name.lower() in self._taken:
            name, number = f"{base}-{number}", number + 1
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
    """Files by stem, in order of names, and the faults of what else lies in the folder.

    Files with a suffix in `ignored` are neither.
    """
    files: dict[str, Path] = {}
    faults = []
    for path in sorted(folder.iterdir()):
        name = sources.name(path)
        if path.is_file() and path.suffix.lower() in ignored:
            continue
        if not path.is_file() or path.suffix.lower() not in suffixes:
            detail = "not one of " + " ".join(sorted(suffixes))
            faults.append(Fault("stray-file", name, None, detail))
        elif path.stem in files:
            faults.append(Fault("same-name", name, None, f"beside {files[path.stem].name}"))
        else:
            files[path.stem] = path
    return files, faults


def images_of(folder: Path, sources: Sources) -> tuple[dict[str, Path], list[Fault]]:
    return by_stem(folder, SUFFIXES, sources)
