"""What of each picture is compared with others: a record of equal length for each.

`features.bin` of a prepared set holds the records of all pictures of the source, in the order of
`pictures.jsonl`: a small grey view, and the local features. They are made once, while the picture
is decoded. A record is bytes that mean numbers, so reading it runs nothing; a file of millions is
read as an array that stays on the disk.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.prep.pictures import local_features, looks
from data.prep.pictures.local_features import Features

NAME = "features.bin"
RECORD = np.dtype(
    [
        ("view", np.uint8, (looks.THUMBNAIL, looks.THUMBNAIL)),
        ("count", np.uint8),
        ("places", np.uint8, (local_features.MOST, 2)),
        ("descriptions", np.uint8, (local_features.MOST, local_features.BYTES)),
    ]
)
"""7,361 bytes. Behind the `count` features that a picture has, the rest is 0."""
NOTHING = bytes(RECORD.itemsize)
"""Of a picture that cannot be used."""

Records = NDArray[np.void]


def record_of(grey: Image.Image, view: NDArray[np.uint8]) -> bytes:
    """The record of a picture in grey with its view, `looks.view_of`."""
    places, descriptions = local_features.features_of(grey)
    record = np.zeros((), RECORD)
    record["view"] = view
    record["count"] = count = len(places)
    record["places"][:count] = places
    record["descriptions"][:count] = descriptions
    return record.tobytes()


def of_pictures(pictures: Iterable[Image.Image]) -> Records:
    """The records of pictures in memory."""
    greys = [picture.convert("L") for picture in pictures]
    joined = b"".join(record_of(grey, looks.view_of(grey)) for grey in greys)
    return np.frombuffer(joined, RECORD)


def features(record: np.void) -> Features:
    """The local features in a record."""
    count = record["count"]
    return Features(record["places"][:count], record["descriptions"][:count])


def read_all(path: Path) -> Records:
    """The records of a file, one for each picture, read from the disk where they are used."""
    if not path.stat().st_size:  # which cannot be mapped
        return np.empty(0, RECORD)
    return np.asarray(np.memmap(path, RECORD, "r"))


def forget(path: Path, numbers: Sequence[int]) -> None:
    """Empty the records of pictures that are no part of the set: its files show nothing else."""
    np.memmap(path, RECORD, "r+")[numbers] = np.zeros((), RECORD)


def read_one(path: Path, number: int) -> bytes:
    """The record of one picture, as `record_of` made it."""
    with path.open("rb") as file:
        file.seek(number * RECORD.itemsize)
        return file.read(RECORD.itemsize)
