"""Zip archives of untrusted origin: checked whole before the first byte is unpacked.

Refused by name: paths out of the folder, links and devices, encrypted or overlapping entries, two
entries for one file, entries that unpack to more than 100 times their size, and more entries or
bytes than the public sets could ever have. The directory's size is read before the directory is.

Section numbers are those of the zip format's description (PKWARE's APPNOTE.TXT).
"""

import os
import re
import stat
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from dat_runtime.errors import DataError
from dat_runtime.stage import Stage

MAX_ENTRIES = 200_000
MAX_TOTAL = 64 * 1024**3
MAX_RATIO = 100
"""Packet lists are compressed about 15 to 1, photographs 1 to 1."""

_SMALL = 1024 * 1024
"""Bytes. Entries up to this size may exceed MAX_RATIO, as blank labels and pictures do."""
_DIRECTORY_PER_ENTRY = 200
"""Bytes of the directory for one entry: a header of 46 (4.3.12), its name and extra fields."""
_MAX_PATH = 400
_LONGEST_COMMENT = 0xFFFF
_END = struct.Struct("<4s4H2LH")
"""End of central directory record (4.3.16); fields 4 and 5: entries and bytes of the directory."""
_END64 = struct.Struct("<4sQ2H2L4Q")
"""The same for large archives (4.3.14); fields 7 and 8."""
_LOCATOR64 = struct.Struct("<4sLQL")
"""Precedes the end record in large archives (4.3.15)."""
_CHUNK = 1024 * 1024


def unpacking(archive: Path, folder: Path, code: str = __file__) -> Stage:
    """The stage that `unpack` of a module writes into: `folder` appears whole or not at all."""
    return Stage(folder, kind="source", inputs={"archive": archive}, config={}, code=[code])


def unpack(archive: Path, folder: Path) -> int:
    """Write the archive's files into `folder`, which must be empty; returns how many.

    Raises:
        DataError: the archive is broken or cannot be trusted; names the entry. Nothing was
            written outside `folder`.
    """
    try:
        with archive.open("rb") as file:
            _demand_small_directory(file, archive)
            with zipfile.ZipFile(file) as opened:
                entries = opened.infolist()
                _check(entries, archive)
                for entry in entries:
                    _write(opened, entry, folder / entry.filename, archive)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, struct.error, OSError) as error:
        raise DataError(f"cannot be unpacked: {error}", archive) from None
    except Exception as error:  # zlib.error, lzma.LZMAError, UnicodeDecodeError of a broken entry
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot be unpacked: {type(error).__name__}: {error}", archive) from None
    return sum(not entry.is_dir() for entry in entries)


def _demand_small_directory(file: IO[bytes], archive: Path) -> None:
    """Refuse a large directory by the end record, before `zipfile` loads the directory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - _LONGEST_COMMENT))
    tail = file.read()
    # The record ends the file, or a comment of unknown length follows it.
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise DataError(
            "not a zip archive: it has no end record (cut off, or another format)", archive
        )
    record = _END.unpack_from(tail, at)
    count, directory_bytes = record[4], record[5]
    if at >= _LOCATOR64.size:
        locator = _LOCATOR64.unpack_from(tail, at - _LOCATOR64.size)
        if locator[0] == b"PK\6\7":
            # Like `zipfile`: right before the locator, whatever place the locator states.
            end_at = size - len(tail) + at
            file.seek(end_at - _LOCATOR64.size - _END64.size)
            record64 = _END64.unpack(file.read(_END64.size))
            if record64[0] == b"PK\6\6":
                count, directory_bytes = record64[7], record64[8]
    # The count may be wrong, but `zipfile` reads no more than the bytes.
    if count > MAX_ENTRIES or directory_bytes > MAX_ENTRIES * _DIRECTORY_PER_ENTRY:
        raise DataError(
            f"{count:,} entries in a directory of {directory_bytes:,} bytes; at most "
            f"{MAX_ENTRIES:,} entries are unpacked (unpack it yourself and name the folder)",
            archive,
        )


def _check(entries: Sequence[zipfile.ZipInfo], archive: Path) -> None:
    """All entries, before one is unpacked."""
    if len(entries) > MAX_ENTRIES:
        raise DataError(f"{len(entries):,} entries, at most {MAX_ENTRIES:,}", archive)
    total = sum(entry.file_size for entry in entries)
    if total > MAX_TOTAL:
        raise DataError(f"unpacks to {total:,} bytes, at most {MAX_TOTAL:,}", archive)
    names: set[str] = set()
    for entry in entries:
        problem = _problem(entry)
        if problem:
            raise DataError(f"entry {entry.filename!r:.200}: {problem}", archive)
        # Without regard to case: on some systems `A.txt` and `a.txt` are one file.
        name = entry.filename.rstrip("/").casefold()
        if name in names:
            raise DataError(f"entry {entry.filename!r:.200}: appears twice", archive)
        names.add(name)
    # Entries that share their bytes let a small archive unpack to a huge one.
    end = 0
    for entry in sorted(entries, key=lambda e: e.header_offset):
        if entry.header_offset < end:
            raise DataError(f"entry {entry.filename!r:.200}: overlaps another", archive)
        end = entry.header_offset + entry.compress_size


def name_problem(name: str) -> str | None:
    """Why the name of an entry cannot be trusted; None if it can."""
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or "\\" in name:
        return "an absolute or foreign path"
    if any(part in ("", ".", "..") for part in name.rstrip("/").split("/")):
        return "a path that leads out of the folder"
    if len(os.fsencode(name)) > _MAX_PATH or any(ord(c) < 32 for c in name):
        return f"a path over {_MAX_PATH} bytes or with control characters"
    return None


def _problem(entry: zipfile.ZipInfo) -> str | None:
    """Why an entry cannot be trusted; None if it can."""
    if problem := name_problem(entry.filename):
        return problem
    kind = stat.S_IFMT(entry.external_attr >> 16)  # Unix's file mode lies in the upper half
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or device, only files and folders are unpacked"
    if entry.flag_bits & 0x1:  # general purpose bit 0 (4.4.4)
        return "is encrypted"
    if entry.file_size > max(_SMALL, MAX_RATIO * entry.compress_size):
        return (
            f"unpacks from {entry.compress_size:,} to {entry.file_size:,} bytes, "
            f"more than {MAX_RATIO}-fold"
        )
    return None


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, archive: Path) -> None:
    """Write one entry. `zipfile` checks its checksum; one longer than stated is refused here."""
    if entry.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(entry) as packed, path.open("xb") as file:
        while chunk := packed.read(_CHUNK):
            written += len(chunk)
            if written > entry.file_size:
                raise DataError(
                    f"entry {entry.filename!r:.200}: longer than its header says", archive
                )
            file.write(chunk)
