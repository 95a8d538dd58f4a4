"""Reading `truth.jsonl` and `predictions.jsonl`; what is wrong is named by file and line."""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime import truth
from dat_runtime.errors import DataError
from dat_runtime.files import read_json_lines
from dat_runtime.truth import Frame


def read_truth(path: Path) -> list[Frame]:
    """The frames of a truth file, in its order.

    Raises:
        DataError: bad JSON, a field of the wrong kind, a box that is none inside its frame, an
            image listed twice, or no frame at all.
    """
    frames = truth.read_truth(path)
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
    for line, record in read_json_lines(path):
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
