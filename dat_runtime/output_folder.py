"""The lock on an output folder, its move into place, and what an unfinished one is worth."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dat_runtime.errors import ManifestError
from dat_runtime.manifest import NAME

try:
    import fcntl
except ImportError:  # not on this system: two runs at once are not noticed
    fcntl = None  # type: ignore[assignment]


WORK = "work"
"""A training's scratch folder in the one that it makes: of what lies there, only `checkpoint*` is
more than the next start writes again in seconds."""

WEIGHTS = (".pt", ".safetensors")
"""Suffixes of what a training has moved out of its scratch folder at its end."""


class Lock:
    """Lets one process at a time write an output folder: a lock on a file beside it.

    The lock ends with its process, even one that is killed. Where the system or the file system
    has no locks, two runs at once are not noticed.
    """

    def __init__(self, out: Path):
        self._out = out
        self._path = out.with_name(f".{out.name}.lock")
        self._file: IO[bytes] | None = None

    def __enter__(self) -> None:
        if fcntl is None:
            return
        while self._file is None:
            self._file = self._open()

    def _open(self) -> IO[bytes] | None:
        """The locked file; `None` when its last holder removed it before the lock was taken."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("wb")
        except OSError as error:
            raise ManifestError(f"{self._out} cannot be written ({error})") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ManifestError(f"another run is writing {self._out}: wait for its end") from None
        except OSError:  # a file system without locks
            return file
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # unlinked between open and lock: another process may hold a new file
        return None

    def __exit__(self, *_: object) -> None:
        self.release()

    @contextmanager
    def kept_unless_raised(self) -> Iterator[None]:
        """Hold the lock beyond the block, or give it back when the block raises."""
        self.__enter__()
        try:
            yield
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def replace_folder(new: Path, old: Path) -> None:
    """Put `new` where `old` is; a crash between the two renames leaves `old` absent, not mixed."""
    retired = old.with_name(old.name + ".old")
    shutil.rmtree(retired, ignore_errors=True)
    if old.exists():
        old.rename(retired)
    new.rename(old)
    shutil.rmtree(retired, ignore_errors=True)


def written(folder: Path) -> list[Path]:
    """The files with content that lie beside the manifest, relative to the folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    return [path.relative_to(folder) for path in files if path.name != NAME]


def took_time(folder: Path) -> bool:
    """Whether an unfinished folder holds more than the next start would write again in seconds.

    Of a training that is a checkpoint, or the trained weights; of other work whatever is no log.
    """
    files = written(folder)
    if not (folder / WORK).is_dir():
        return any(path.suffix != ".log" for path in files)
    return any(_is_gone_on_from(path) for path in files)


def _is_gone_on_from(path: Path) -> bool:
    """Whether a file in a training's folder is of a checkpoint, or weights that are done."""
    if path.parts[0] == WORK:
        return path.parts[1].startswith("checkpoint")
    return len(path.parts) == 1 and path.suffix in WEIGHTS
