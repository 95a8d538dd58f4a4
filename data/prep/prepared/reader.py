"""The frames of a prepared set with their labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from dat_runtime.truth import read_truth
from dat_runtime.types import Accident, Box, Severity, Size


@dataclass(frozen=True)
class Labelled:
    """One frame of the prepared set with its labels, boxes in the original frame."""

    id: str
    path: Path
    size: Size
    accidents: tuple[Accident, ...]


def read_labelled(data: Path, split: str) -> Iterator[Labelled]:
    """The frames of truth_<split>.jsonl.

    Raises:
        DataError: names the file and line that is no truth record.
    """
    for frame in read_truth(data / f"truth_{split}.jsonl", pictures=True):
        size = Size(frame.width, frame.height)
        accidents = tuple(
            Accident(Box(*box, frame=size), cast(Severity, severity))
            for box, severity in zip(frame.boxes, frame.severities, strict=True)
        )
        yield Labelled(frame.image_id, data / frame.image, size, accidents)
