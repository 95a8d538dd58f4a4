"""The splits that names of folders and files state, as the tools that export sets write them."""

import re
from collections.abc import Callable
from pathlib import Path

from dat_runtime.errors import DataError
from dat_runtime.truth import SPLITS
from data.prep.importers.listing import entries, is_leftover

_WRITTEN = {
    "train": ("train", "training"),
    "val": ("valid", "val", "validation"),
    "test": ("test", "testing"),
}
"""Roboflow writes `valid`, Ultralytics `val`, Datumaro also `validation`; case does not count."""
_SPLIT_OF = {name: split for split in SPLITS for name in _WRITTEN[split]}


def split_named(name: str) -> str | None:
    """The split whose name this is, in whatever case."""
    return _SPLIT_OF.get(name.casefold())


def split_in(stem: str) -> str | None:
    """The split that one word of a file's name states: `instances_val2017`, not `latest`."""
    stated = {split_named(word) for word in re.findall(r"[a-z]+", stem.casefold())} - {None}
    return stated.pop() if len(stated) == 1 else None


def split_folders(root: Path, holds: Callable[[Path], object] = Path.is_dir) -> dict[str, Path]:
    """Split -> its folder directly under `root`, of the folders that hold what is looked for.

    Raises:
        DataError: two folders are of one split, such as `val` and `valid`.
    """
    folders: dict[str, Path] = {}
    for path in entries(root):
        split = split_named(path.name)
        if split is None or is_leftover(path) or not path.is_dir() or not holds(path):
            continue
        if split in folders:
            raise two_of_a_split(split, folders[split], path)
        folders[split] = path
    return folders


def two_of_a_split(split: str, one: Path, other: Path) -> DataError:
    """The refusal of a set that holds one split twice."""
    return DataError(
        f"is the split {split}, and so is {one}: which one counts cannot be known, "
        "move one of them out of the source",
        other,
    )
