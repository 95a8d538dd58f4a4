"""One frame of a source in any layout, its id, and the files that it is made from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dat_runtime.errors import ConfigError
from dat_runtime.truth import SPLITS
from dat_runtime.types import Accident, Size, highest_severity
from data.prep.importers.faults import Fault

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
"""The suffixes of image files; `pictures.decode` then judges the content."""
NEGATIVE = "negative"
"""The stratum of the accident-free frames of the CCTV set, and the beginning of their ids."""

_ROBOFLOW = re.compile(r"(?:_(?:jpe?g|png|bmp|webp|tiff?))?\.rf\.[0-9A-Za-z]{8,}$", re.IGNORECASE)
"""What Roboflow appends to the name of an exported image: `street.jpg` becomes
`street_jpg.rf.<digest>.jpg`. Each augmented copy has a different digest."""
_LABEL_STUDIO = re.compile(r"^(?=\d*[a-f])[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded image, another one for each; a letter tells
it from a date."""
_DATE = r"(?:19|20)\d\d([-_.]?)\d\d\2\d\d(?!\d)"
_NUMBERED = re.compile(
    rf"^((?:.*?[^\d _.()-].*?|\d+)(?:[ _.(-]+{_DATE})?)[ _.(-]+(\d+(?:[ _.(-]+\d+)*)"
)
"""A clip's name and a frame's number: `test12_34`, `acc1 (5)`, `5_0005_g34`. The clip's name has
letters or is one number, and may end with a date: `cam1-2024-05-31-10-15-00` is the frame 10-15-00.
A file name that is only one number states no clip."""
_FRAME = re.compile(r"^(.*frame)()(\d+)", re.IGNORECASE)
"""`frame12`, which has nothing between clip and number."""
_NO_CLIP = re.compile(
    rf"(?:ima?ge?s?|imagen|pics?|pictures?|photos?|fotos?|dsc[a-z]?|dji|pxl|mvimg|p|th|oip"
    rf"|downloads?|unnamed|untitled|screen[ _-]?shots?|whatsapp[ _-]image|vlcsnap|hqdefault"
    rf"|maxresdefault|i?stock[ _-]?photos?|shutterstock|gettyimages|ezgif.*)?"
    rf"(?:[ _.(-]*({_DATE}|(?:19|20)\d\d))?"
)
"""What cameras, browsers and converters call every picture, and dates: `IMG_1234` and `IMG_1235`
need not be of one place."""


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
        return self._clip_and_number[0]

    @property
    def number(self) -> tuple[int, ...]:
        """The frame's number in its clip; several integers if it is a time."""
        return self._clip_and_number[1]

    @property
    def _clip_and_number(self) -> tuple[str | None, tuple[int, ...]]:
        stem = _LABEL_STUDIO.sub("", _ROBOFLOW.sub("", self.path.stem))
        match = _NUMBERED.match(stem) or _FRAME.match(stem)
        if match is None or _NO_CLIP.fullmatch(match[1].casefold()):
            return None, ()
        return match[1].casefold(), tuple(int(digits) for digits in re.findall(r"\d+", match[3]))


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

    def demand_splits(self, where: Path) -> None:
        """Refuse a source that lacks a split, where its own splits are to be kept.

        Raises:
            ConfigError: it has no splits, or not all of them.
        """
        if not self.published:
            raise ConfigError(f"{where} has no splits: --leak-free makes them (70 : 15 : 15)")
        if lacking := [split for split in SPLITS if not self.published.get(split)]:
            raise ConfigError(
                f"no usable frame in the split {' and '.join(lacking)} of {where} "
                "(--leak-free makes new splits of all frames, 70 : 15 : 15)"
            )
