"""The files in the folders of a source, without what operating systems leave among them."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dat_runtime.errors import DataError

_LEFTOVERS = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})


def is_leftover(path: Path) -> bool:
    """Whether an operating system wrote it (`__MACOSX`, `._name`, `Thumbs.db`), or it is hidden."""
    return path.name.startswith(".") or path.name.casefold() in _LEFTOVERS


def entries(folder: Path) -> list[Path]:
    """What is directly in a folder, by name.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot be listed ({error.strerror})", folder) from None


def exists_as_file(path: Path) -> bool:
    """Whether it is a file; a name that no file can have (too long, not UTF-8) names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


class Found(NamedTuple):
    """The files of a folder.

    Attributes:
        files: by their path below the folder, without suffix: `cam1/0001`.
        stray: (path, why) of what has none of the suffixes, or cannot be read as a file.
        doubles: (path, the first) of files that share all but the suffix with an earlier one.
        leftovers: what an operating system wrote.
    """

    files: dict[str, Path]
    stray: list[tuple[Path, str]]
    doubles: list[tuple[Path, Path]]
    leftovers: list[Path]


def find_files(
    folder: Path, suffixes: frozenset[str], ignored: Iterable[str] = (), deep: bool = True
) -> Found:
    """The files in a folder, with `deep` also in the folders below it, in the order of their names.

    Links to folders are not followed. Files whose suffix, or whole name, is in `ignored` are in no
    list.

    Raises:
        DataError: a folder cannot be listed.
    """
    found = Found({}, [], [], [])
    for path in _paths_below(folder, found, deep):
        suffix = path.suffix.lower()
        stem = PurePosixPath(path.relative_to(folder).as_posix()).with_suffix("").as_posix()
        if suffix in ignored or path.name in ignored:
            continue
        if suffix not in suffixes:
            found.stray.append((path, "not one of " + " ".join(sorted(suffixes))))
        elif not path.is_file():
            found.stray.append((path, "is no file (a broken link, a folder or a device)"))
        elif stem in found.files:
            found.doubles.append((path, found.files[stem]))
        else:
            found.files[stem] = path
    return found


def _paths_below(folder: Path, found: Found, deep: bool) -> list[Path]:
    """All paths below a folder, but those of folders themselves; leftovers go to `found`."""
    paths = []
    ahead = [folder]
    while ahead:
        for path in entries(ahead.pop()):
            if is_leftover(path):
                found.leftovers.append(path)
            elif deep and path.is_dir() and not path.is_symlink():
                ahead.append(path)
            else:
                paths.append(path)
    return sorted(paths)


def by_folded_name(folder: Path) -> Mapping[str, Path]:
    """What is directly in a folder, by its name in small letters; the first of equal ones."""
    named: dict[str, Path] = {}
    for path in entries(folder):
        named.setdefault(path.name.casefold(), path)
    return named


def readable(path: Path) -> str:
    r"""A path for reports, with bytes that are not UTF-8 as `\xff`: reports are UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
