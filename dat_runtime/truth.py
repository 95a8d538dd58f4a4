"""Reading `truth.jsonl`, the labels of frames; what is wrong is named by file and line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime.errors import DataError
from dat_runtime.types import SEVERITIES


class Frame(NamedTuple):
    """The truth of one frame: boxes `(x1, y1, x2, y2)` in its pixels, and their severities."""

    image_id: str
    image: str
    width: int
    height: int
    boxes: tuple[tuple[float, ...], ...]
    severities: tuple[str, ...]


def read_truth(path: Path, *, pictures: bool = False) -> list[Frame]:
    """The frames of a truth file, in its order.

    Args:
        pictures: the frames' images are read, and files are named after their ids.

    Raises:
        DataError: bad JSON, a field of the wrong kind, a box that is none inside its frame, an
            image listed twice; with `pictures` an image outside the folder, an id that names none.
    """
    frames: list[Frame] = []
    seen: dict[str, int] = {}
    for line, record in json_lines(path):
        try:
            frame = _frame(record, pictures)
        except ValueError as error:
            raise DataError(str(error), path, line) from None
        if first := seen.get(frame.image_id):
            raise DataError(f"image {frame.image_id!r} is already on line {first}", path, line)
        seen[frame.image_id] = line
        frames.append(frame)
    return frames


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines, numbered from 1. Only \\n ends a line.

    Raises:
        DataError: the file cannot be read or is not UTF-8, or a line is no JSON object.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path) from None
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise DataError("is not UTF-8", path, number) from None
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"is not JSON ({error})", path, number) from None
        if not isinstance(record, dict):
            raise DataError("is not a JSON object", path, number)
        yield number, record


_NUMBERS = frozenset((int, float))


def _frame(record: dict[str, Any], pictures: bool) -> Frame:
    image_id, image = record.get("image_id"), record.get("image", "")
    width: Any = record.get("width")
    height: Any = record.get("height")
    accidents = record.get("accidents")
    if not isinstance(image_id, str) or not image_id or not isinstance(image, str):
        raise ValueError("image_id and image must be strings")
    if pictures and not _is_file_name(image_id):
        raise ValueError(f"image_id must be a file's name, got {image_id!r:.60}")
    if pictures and not _is_inside(image):
        raise ValueError(f"image must be a path inside the folder, got {image!r:.60}")
    if not (_is_whole(width) and _is_whole(height) and width > 0 and height > 0):
        raise ValueError(f"width and height must be positive integers, got {width} x {height}")
    if not isinstance(accidents, list):
        raise ValueError("accidents must be an array")
    boxes, severities = [], []
    for accident in accidents:
        if not isinstance(accident, dict):
            raise ValueError(f"an accident must be an object, got {accident!r:.60}")
        bbox, severity = accident.get("bbox"), accident.get("severity")
        if severity not in SEVERITIES:
            raise ValueError(f"severity must be one of {SEVERITIES}, got {severity!r:.60}")
        if not (isinstance(bbox, list) and len(bbox) == 4 and _NUMBERS.issuperset(map(type, bbox))):
            raise ValueError(f"bbox must be four numbers, got {bbox!r:.60}")
        if not (0 <= bbox[0] < bbox[2] <= width and 0 <= bbox[1] < bbox[3] <= height):
            raise ValueError(f"bbox {bbox} is no box inside {width} x {height}")
        boxes.append(tuple(bbox))
        severities.append(severity)
    return Frame(image_id, image, width, height, tuple(boxes), tuple(severities))


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and not re.search(r"[/\\\x00\ud800-\udfff]", name)


def _is_inside(path: str) -> bool:
    return all(map(_is_file_name, path.split("/")))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
