"""`truth.jsonl`: the labels of frames, written by preparation and read by every later stage.

A line is {"image_id", "image", "width", "height", "accidents": [{"bbox", "severity"}]}. Further
keys, which other tools may have added, are left alone.
"""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime import fields
from dat_runtime.errors import DataError
from dat_runtime.files import read_json_lines
from dat_runtime.types import SEVERITIES, Accident, Box, Severity, Size

SPLITS = ("train", "val", "test")
"""The parts of a prepared set, each with its `truth_<split>.jsonl`."""

GROUPS = "groups.json"
"""In a prepared set: for each split, frame -> its group of frames that belong together."""

HELD_OUT = "held_out.json"
"""In the folder of a gate that left a fold out (`train.gate --fold`): the ids of its frames."""

_FRAME = {
    "image_id": fields.NAME,
    "image": fields.TEXT,
    "width": fields.whole(1),
    "height": fields.whole(1),
    "accidents": fields.LIST,
}
_MAY_BE_LEFT_OUT = ("image",)
_NUMBERS = frozenset((int, float))
_ACCIDENT = {
    # NaN and infinity pass here; `_accident` refuses them, as neither lies inside a frame.
    "bbox": fields.Rule(
        lambda v: isinstance(v, list) and len(v) == 4 and _NUMBERS.issuperset(map(type, v)),
        "a list of 4 numbers",
    ),
    "severity": fields.one_of(SEVERITIES),
}


class Frame(NamedTuple):
    """The truth of one frame: its accidents, boxes in pixels of `size`.

    Attributes:
        image: path of the picture inside the set's folder; "" where only the labels are there.
    """

    image_id: str
    image: str
    size: Size
    accidents: tuple[Accident, ...]

    @property
    def severities(self) -> tuple[Severity, ...]:
        """The severity of each accident."""
        return tuple([accident.severity for accident in self.accidents])


def read_split(data: Path, split: str) -> list[Frame]:
    """The frames of one split of a prepared set; their pictures lie at `data / frame.image`.

    Raises:
        DataError: as `read_truth` with pictures.
    """
    return read_truth(data / f"truth_{split}.jsonl", pictures=True)


def read_truth(path: Path, *, pictures: bool = False) -> list[Frame]:
    """The frames of a truth file, in its order.

    Args:
        pictures: the frames' images are read, and files are named after their ids.

    Raises:
        DataError: bad JSON, a field of the wrong kind, a box not inside its frame, an image listed
            twice; with `pictures` an image outside the folder, or an id that no file can have.
    """
    frames: list[Frame] = []
    first_lines: dict[str, int] = {}
    with _collector_held():
        for line, record in read_json_lines(path):
            try:
                frame = _frame(record)
                if pictures:
                    _demand_names(frame)
            except ValueError as error:
                raise DataError(str(error), path, line) from None
            first_line = first_lines.setdefault(frame.image_id, line)
            if first_line != line:
                raise DataError(
                    f"image {frame.image_id!r} is already on line {first_line}", path, line
                )
            frames.append(frame)
    return frames


@contextmanager
def _collector_held() -> Iterator[None]:
    """Hold Python's cyclic garbage collector.

    Nothing of a file that is being read is garbage, and the collector would go through all of it
    again and again: a third of the time in which 100,000 frames are read.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


_size = lru_cache(maxsize=64)(Size)
"""A file has few sizes and many frames; the frames of one size share it."""


def _frame(record: dict[str, Any]) -> Frame:
    fields.checked(record, _FRAME, "", _MAY_BE_LEFT_OUT, further_keys=True)
    size = _size(record["width"], record["height"])
    accidents = tuple([_accident(value, size) for value in record["accidents"]])
    return Frame(record["image_id"], record.get("image", ""), size, accidents)


def _accident(value: Any, size: Size) -> Accident:
    fields.checked(value, _ACCIDENT, "accident", further_keys=True)
    x1, y1, x2, y2 = value["bbox"]
    if not (0 <= x1 < x2 <= size.width and 0 <= y1 < y2 <= size.height):
        shown = fields.shown(value["bbox"])
        raise ValueError(f"bbox {shown} is not a box inside {size.width} x {size.height}")
    return Accident(Box(x1, y1, x2, y2, size), value["severity"])


def _demand_names(frame: Frame) -> None:
    if not _is_file_name(frame.image_id):
        raise ValueError(f"image_id must be a file's name, got {fields.shown(frame.image_id)}")
    if not all(map(_is_file_name, frame.image.split("/"))):
        raise ValueError(f"image must be a path inside the folder, got {fields.shown(frame.image)}")


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and not re.search(r"[/\\\x00\ud800-\udfff]", name)
