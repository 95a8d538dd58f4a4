"""The files beside the spool's database: its lock, its reserve of disk space, broken databases."""

import contextlib
import fcntl
import os
from pathlib import Path

from dat_runtime.errors import DatError
from dat_runtime.files import sync_folder


class SpoolError(DatError):
    """The spool cannot keep an event, or cannot be used; nothing was acknowledged."""


class Lock:
    """Says that a spool is in use; the kernel lets it go when the process ends, however it ends.

    Raises:
        SpoolError: another process uses the spool, or its folder cannot be written.
    """

    def __init__(self, database: Path):
        path = database.with_name(database.name + ".lock")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolError(f"cannot be used ({error.strerror})", path) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._file, 20).decode("ascii", "replace").strip()
            os.close(self._file)
            raise SpoolError(f"is in use by process {holder or 'unknown'}", database) from None
        with contextlib.suppress(OSError):  # a full disk: nobody can be told who it is
            os.pwrite(self._file, f"{os.getpid():<19}\n".encode(), 0)

    def close(self) -> None:
        """A second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def require_own(database: Path) -> None:
    """Refuse a file that no spool made, before it is taken for a damaged one and set aside.

    Raises:
        SpoolError: it is something else, such as the settings in which its name stands.
    """
    if database.with_name(database.name + ".lock").exists():
        return  # a spool was here, and whatever it left may be damaged
    try:
        with database.open("rb") as file:
            begins = file.read(len(_SQLITE))
    except OSError:  # there is none, or what is wrong with it is told when it is opened
        return
    # Zeros: space that a power cut left empty.
    if begins.strip(b"\0") and begins != _SQLITE:
        raise SpoolError("is no spool but another file: name a new one", database)


_SQLITE = b"SQLite format 3\0"


class Reserve:
    """A file that holds disk space for alerts until others have filled the disk.

    It is given up in slices: whoever fills the disk takes the slice of one moment, not all of it.
    """

    SLICE = 256 * 1024
    """Bytes: the write-ahead log needs about as much for a group of alerts."""

    def __init__(self, database: Path):
        self._path = database.with_name(database.name + ".reserve")

    @property
    def size(self) -> int:
        """Bytes that it holds now."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def give(self) -> bool:
        """Give one slice back to the disk; False when there is none left, or it cannot be given."""
        size = self.size
        if size == 0:
            return False
        try:
            self.shrink(max(0, size - self.SLICE))
        except OSError:
            return False
        return True

    def shrink(self, size: int) -> None:
        """Hold no more than `size` bytes.

        Raises:
            OSError: the disk fails.
        """
        if self.size > size:
            os.truncate(self._path, size)

    def grow(self, size: int) -> bool:
        """Hold `size` bytes; False when the disk has not room for what is missing twice.

        Without the second half the reserve would itself be what fills the disk.
        """
        missing = size - self.size
        if missing <= 0:
            return True
        try:
            if free_bytes(self._path) < 2 * missing:
                return False
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, size)
            finally:
                os.close(file)
        except OSError:
            return False
        return True


def set_aside(database: Path) -> Path:
    """Give a broken database and its log a name of their own, and say which. Nothing is deleted.

    Raises:
        OSError: the folder cannot be written.
    """
    number = 1
    while (aside := database.with_name(f"{database.name}.broken-{number}")).exists():
        number += 1
    # The log first: a kill in between must not leave one that a new database takes as its own.
    for suffix in ("-wal", "-shm", ""):
        file = database.with_name(database.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))
    sync_folder(database.parent)
    return aside


def free_bytes(file: Path) -> int:
    """What the disk of a file has left.

    Raises:
        OSError: the folder cannot be read.
    """
    disk = os.statvfs(file.parent)
    return disk.f_bavail * disk.f_frsize
