"""Where the CCTV set keeps its accident-free frames: `Non Accident`, in each split or in none."""

import re
from pathlib import Path

from dat_runtime.errors import DataError
from data.prep.importers.listing import entries, is_leftover
from data.prep.importers.split_names import split_folders

_SPELLINGS = frozenset({"nonaccident", "nonaccidents", "noaccident", "noaccidents"})
"""`Non Accident`, `non_accident`, `NonAccident`, `no-accident`, ..., in letters only."""


def negative_folders(root: Path) -> dict[str | None, Path]:
    """Split -> its folder of accident-free frames; one of None where the set has no splits.

    Raises:
        DataError: a split has two such folders, or two folders are of one split.
    """
    folders: dict[str | None, Path] = {}
    for split, folder in split_folders(root, _in).items():
        found = _in(folder)
        if found is not None:
            folders[split] = found
    alone = None if folders else _in(root)
    return folders if alone is None else {None: alone}


def _in(folder: Path) -> Path | None:
    """The folder of accident-free frames directly in a folder."""
    found = [
        path
        for path in entries(folder)
        if _letters(path.name) in _SPELLINGS and not is_leftover(path) and path.is_dir()
    ]
    if len(found) > 1:
        raise DataError(f"holds accident-free frames, and so does {found[0]}: join them", found[1])
    return found[0] if found else None


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.casefold())
