"""Reading `truth.jsonl` and `predictions.jsonl`; what is wrong is named by file and line."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dat_runtime.errors import DataError
from dat_runtime.types import SEVERITIES
from eval.metrics import Frame


def read_truth(path: Path) -> list[Frame]:
    """The frames of a truth file, in its order.

    Raises:
        DataError: bad JSON, a field of the wrong kind, a box that is none inside its frame, an
            image listed twice, or no frame at all.
    """
    frames: list[Frame] = []
    seen: dict[str, int] = {}
    for line, record in _records(path):
        try:
            frame = _frame(record)
        except ValueError as error:
            raise DataError(str(error), path, line) from None
        if first := seen.get(frame.image_id):
            raise DataError(f"image {frame.image_id!r} is already on line {first}", path, line)
        seen[frame.image_id] = line
        frames.append(frame)
    if not frames:
        raise DataError("no frame in it", path)
    return frames


def read_predictions(path: Path, frames: Sequence[Frame]) -> list[str | None]:
    """The answer to each of the frames, `None` where there is none.

    Raises:
        DataError: bad JSON, a field of the wrong kind, an image that is not among the frames, or
            two answers for one.
    """
    place = {frame.image_id: i for i, frame in enumerate(frames)}
    texts: list[str | None] = [None] * len(frames)
    for line, record in _records(path):
        image_id, text = record.get("image_id"), record.get("text")
        if not isinstance(image_id, str) or not isinstance(text, str):
            raise DataError("needs image_id and text, both strings", path, line)
        index = place.get(image_id)
        if index is None:
            raise DataError(f"image {image_id!r} is not in the truth", path, line)
        if texts[index] is not None:
            raise DataError(f"a second prediction for image {image_id!r}", path, line)
        texts[index] = text
    return texts


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError("is not UTF-8", path, line) from None
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


def _frame(record: dict[str, Any]) -> Frame:
    image_id, image = record.get("image_id"), record.get("image", "")
    width, height, accidents = (record.get(k) for k in ("width", "height", "accidents"))
    if not isinstance(image_id, str) or not image_id or not isinstance(image, str):
        raise ValueError("image_id and image must be strings")
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


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))
