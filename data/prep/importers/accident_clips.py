"""The real clips of the ACCIDENT benchmark, as published: a table, and a video for each row.

Picek et al., arXiv:2604.09819, 2026. The table is `metadata-real.csv`, or `labels.csv` in earlier
releases. Its paths are those of a submission; the videos lie in `real_videos/` or `videos/`, by
release, so a path that leads nowhere is looked for there by its name. Places are shares of the
frame's width and height, times are seconds from the clip's start.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dat_runtime.errors import DataError
from dat_runtime.files import read_text

TABLES = ("metadata-real.csv", "labels.csv")
FOLDERS = ("real_videos", "videos")
TYPES = ("head-on", "rear-end", "sideswipe", "single", "t-bone")
"""The kinds of collision that its labels tell apart."""

_CENTER = ("center_x", "center_y")
_BOX = ("x1", "y1", "x2", "y2")
COLUMNS = ("path", "type", "accident_time", *_CENTER, *_BOX, "duration")
"""Those that are used; further ones, such as weather and splits, are left alone."""

_OUTSIDE = 0.5
"""Shares by which a place may lie outside its frame; further out it is in other units."""


class Clip(NamedTuple):
    """One row of the table.

    Attributes:
        path: as the table has it.
        video: where the clip lies.
        type: one of `TYPES`.
        accident_time, duration: seconds.
        center: the point of impact, (x, y) in shares of the frame.
        box: around those who take part in the accident, (x1, y1, x2, y2) in shares of the frame.
    """

    path: str
    video: Path
    type: str
    accident_time: float
    duration: float
    center: tuple[float, ...]
    box: tuple[float, ...]


def read_clips(source: Path) -> list[Clip]:
    """The clips below `source`, in the table's order.

    Raises:
        DataError: no table, or two; a column is missing, a field cannot be what it should be, a
            clip is listed twice or its video is missing. Names file and line.
    """
    table = _table(source)
    text = read_text(table).removeprefix("\ufeff")
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True)
    clips: list[Clip] = []
    lines: dict[str, int] = {}
    try:
        _demand_columns(rows.fieldnames or (), table)
        for row in rows:
            try:
                clip = _clip(row, table.parent)
                first = lines.setdefault(clip.video.stem, rows.line_num)
                if first != rows.line_num:
                    raise ValueError(f"clip {clip.video.stem!r} is already on line {first}")
            except ValueError as error:
                raise DataError(str(error), table, rows.line_num) from None
            clips.append(clip)
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", table, rows.line_num) from None
    if not clips:
        raise DataError("no clip in it", table)
    return clips


def _table(source: Path) -> Path:
    """The one table, in `source` or in the folder where the authors' script puts it."""
    folders = (source, source / FOLDERS[0])
    found = [folder / name for folder in folders for name in TABLES if (folder / name).is_file()]
    if len(found) != 1:
        names = ", ".join(path.relative_to(source).as_posix() for path in found)
        raise DataError(
            f"expected one table of the ACCIDENT clips, {' or '.join(TABLES)}, directly in it or "
            f"in {FOLDERS[0]}/: found {names or 'none'}",
            source,
        )
    return found[0]


def _demand_columns(names: Sequence[str], table: Path) -> None:
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise DataError(f"lacks the columns {', '.join(missing)}", table, 1)


def _clip(row: Mapping[str, str | None], folder: Path) -> Clip:
    """Raises ValueError where a field will not do."""
    path = row["path"] or ""
    kind = (row["type"] or "").strip().lower()  # as the benchmark's scorer compares types
    if kind not in TYPES:
        raise ValueError(f"type is {row['type']!r:.40}, expected one of {', '.join(TYPES)}")
    duration = _number(row, "duration")
    accident_time = _number(row, "accident_time")
    if not 0 <= accident_time <= duration or not duration:
        raise ValueError(
            f"accident_time is {accident_time:g} of a clip of {duration:g} s: expected seconds "
            "from its start"
        )
    box = tuple(_share(row, name) for name in _BOX)
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"x1, y1, x2, y2 are {', '.join(map(str, box))}: no box")
    return Clip(
        path=path,
        video=_video(folder, path),
        type=kind,
        accident_time=accident_time,
        duration=duration,
        center=tuple(_share(row, name) for name in _CENTER),
        box=box,
    )


def _number(row: Mapping[str, str | None], name: str) -> float:
    try:
        value = float(row[name] or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} is {row[name]!r:.40}, expected a finite number")
    return value


def _share(row: Mapping[str, str | None], name: str) -> float:
    value = _number(row, name)
    if not -_OUTSIDE <= value <= 1 + _OUTSIDE:
        raise ValueError(f"{name} is {value:g}, expected a share of the frame, from 0 to 1")
    return value


def _video(folder: Path, path: str) -> Path:
    pure = PurePosixPath(path)
    if not pure.name or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise ValueError(f"path is {path!r:.80}, expected a path inside the folder")
    places = [folder / path, *(folder / name / pure.name for name in FOLDERS)]
    for place in places:
        if place.is_file():
            return place
    raise ValueError(f"the clip {path!r:.80} is neither there nor in {'/ or '.join(FOLDERS)}/")
