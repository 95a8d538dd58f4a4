"""Tar archives of untrusted origin, plain or gzipped: each entry is checked before it is written.

The rules are those of `archive`. A gzipped tar has no directory, so the entries are checked as they
come, and what comes is counted: a small file that unpacks to a huge one is stopped on its way.
"""

import gzip
import tarfile
import zlib
from pathlib import Path
from typing import IO, cast

from dat_runtime.errors import DataError
from data.prep.importers.archive import MAX_ENTRIES, MAX_RATIO, MAX_TOTAL, name_problem

_SMALL = 64 * 1024 * 1024
"""Bytes. An archive that unpacks to no more than this may exceed MAX_RATIO."""
_CHUNK = 1024 * 1024


def unpack(archive: Path, folder: Path) -> int:
    """Write the archive's files into `folder`, which must be empty; returns how many.

    Raises:
        DataError: the archive is broken or cannot be trusted; names the entry. Nothing was
            written outside `folder`, but files that came before that entry are in it.
    """
    try:
        with archive.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = gzip.GzipFile(fileobj=file) if packed else file
            limit = min(MAX_TOTAL, max(_SMALL, MAX_RATIO * archive.stat().st_size))
            counted = cast(IO[bytes], _Counted(cast(IO[bytes], stream), limit))
            with tarfile.open(fileobj=counted, mode="r:") as opened:
                return _unpack(opened, folder)
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, _UntrustedError) as error:
        raise DataError(f"cannot be unpacked: {error}", archive) from None


class _UntrustedError(Exception):
    """What is refused, in words."""


class _Counted:
    """A stream that stops at too many bytes in all, or asked for at once.

    `tarfile` reads a long name or an extended header in one piece, whatever size it states.
    """

    def __init__(self, stream: IO[bytes], limit: int):
        self._stream, self._limit = stream, limit

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _CHUNK:
            raise _UntrustedError(f"a header of {size:,} bytes")
        data = self._stream.read(size)
        self._demand_within(self._stream.tell())
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        self._demand_within(place)
        return self._stream.seek(place, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def _demand_within(self, place: int) -> None:
        if place > self._limit:
            raise _UntrustedError(f"unpacks to more than {self._limit:,} bytes")


def _unpack(opened: tarfile.TarFile, folder: Path) -> int:
    count = 0
    names: set[str] = set()
    for number, entry in enumerate(opened, start=1):
        if number > MAX_ENTRIES:
            raise _UntrustedError(f"more than {MAX_ENTRIES:,} entries")
        name = entry.name.removeprefix("./").rstrip("/")
        if entry.isdir() and name in ("", "."):
            continue
        problem = name_problem(name)
        if entry.issparse() or not (entry.isreg() or entry.isdir()):
            problem = "a link, a device or a sparse file, only files and folders are unpacked"
        if not problem and entry.isreg() and name.casefold() in names:
            problem = "appears twice"
        if problem:
            raise _UntrustedError(f"entry {entry.name!r:.200}: {problem}")
        names.add(name.casefold())
        if entry.isdir():
            (folder / name).mkdir(parents=True, exist_ok=True)
        else:
            _write(opened, entry, folder / name)
            count += 1
    return count


def _write(opened: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = opened.extractfile(entry)
    assert packed is not None  # a regular file
    with packed, path.open("xb") as file:
        while chunk := packed.read(_CHUNK):
            file.write(chunk)
    if path.stat().st_size != entry.size:
        raise _UntrustedError(f"entry {entry.name!r:.200}: ends early")
