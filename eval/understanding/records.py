"""Reading `truth.jsonl` and `predictions.jsonl`; errors name the file and the line."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dat_runtime import truth
from dat_runtime.errors import DataError
from dat_runtime.files import read_json_lines
from dat_runtime.truth import Frame


def read_truth(path: Path) -> list[Frame]:
    """The frames of a truth file, in its order.

    Raises:
        DataError: bad JSON, a field of the wrong kind, a box not inside its frame, an image listed
            twice, or no frame at all.
    """
    frames = truth.read_truth(path)
    if not frames:
        raise DataError("no frame in it", path)
    return frames


def read_predictions(path: Path, frames: Sequence[Frame]) -> list[str | None]:
    """The answer to each of the frames, `None` where there is none.

    Raises:
        DataError: as `read_texts`, or an image that is not among the frames.
    """
    place = {frame.image_id: i for i, frame in enumerate(frames)}
    texts: list[str | None] = [None] * len(frames)
    for line, image_id, text in read_texts(path):
        index = place.get(image_id)
        if index is None:
            raise DataError(f"image {image_id!r} is not in the truth", path, line)
        texts[index] = text
    return texts


def read_texts(path: Path) -> Iterator[tuple[int, str, str]]:
    """The answers of a predictions file: number of the line, image_id and text.

    Raises:
        DataError: bad JSON, a field of the wrong kind, or two answers for one image.
    """
    seen: set[str] = set()
    for line, record in read_json_lines(path):
        image_id, text = record.get("image_id"), record.get("text")
        if not isinstance(image_id, str) or not isinstance(text, str):
            raise DataError("needs image_id and text, both strings", path, line)
        if image_id in seen:
            raise DataError(f"a second prediction for image {image_id!r}", path, line)
        seen.add(image_id)
        yield line, image_id, text
