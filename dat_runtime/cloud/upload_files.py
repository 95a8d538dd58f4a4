"""The bytes of visuals: on disk and in the store together, however they came, by HTTP or by MQTT.

The store has the truth. A byte is acknowledged when the file is synced and the store has committed
how far it goes; what a file holds beyond that is cut off when the upload goes on. Whoever writes
holds a lock on the file, which ends with its process: so several workers share one folder.
"""

import asyncio
import errno
import fcntl
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sqlalchemy import Row

from dat_runtime.cloud import uploads
from dat_runtime.cloud.jpeg import jpeg_size
from dat_runtime.cloud.questions import read_question
from dat_runtime.cloud.tus import QUESTIONS, metadata
from dat_runtime.cloud.uploads import UploadError
from dat_runtime.files import sync_folder

if TYPE_CHECKING:
    from dat_runtime.cloud.receiver import Receiver


class Uploads:
    """Adds bytes to visuals; several workers may share the folder."""

    def __init__(self, receiver: "Receiver"):
        self.files = Files(receiver.folder / "visuals")
        self._store = receiver.store
        self._ended = receiver.metrics.visuals

    async def begin(self, key: str, offset: int | None) -> "tuple[Writing, Row[Any], int]":
        """The file, locked and ready for what follows; the row; and how many bytes are there.

        Args:
            offset: where the sender goes on; `None` will do with what is there.

        Raises:
            UploadError: 404, there is no such upload; 409, it is at another offset; 423, another
                request is writing to it.
            OSError: the file cannot be opened.
        """
        writing = await asyncio.to_thread(Writing, self.files, key)
        try:
            row = await self._store.read(partial(uploads.find, key=key))
            if row is None:
                raise UploadError(404, "no such upload")
            there = min(row.arrived, writing.size)
            if there < row.arrived:  # a file that was lost, or a folder that was put back
                await self._arrived(key, there)
            if offset not in (None, there):
                raise UploadError(409, f"Upload-Offset: this upload is at {there}")
            if there < row.length:
                writing.begin(there)
        except BaseException:
            writing.close()
            raise
        return writing, row, there

    async def acknowledge(self, writing: "Writing", row: Row[Any], at: int) -> None:
        """Return when all up to `at` is there for good; a picture that is whole is then shown.

        Raises:
            UploadError: 400, it is whole and no picture; 404, it was removed meanwhile.
            OSError: it cannot be kept.
        """
        await asyncio.to_thread(writing.sync)
        if at < row.length:
            await self._arrived(row.key, at)
            return
        try:
            await asyncio.to_thread(_check, writing, row)
        except ValueError as error:
            self._ended.labels("refused").inc()
            await self._store.write(partial(uploads.remove, key=row.key))
            await asyncio.to_thread(self.files.remove, row.key)
            what = "question" if row.kind in QUESTIONS else "JPEG that can be shown"
            raise UploadError(400, f"no {what}: it {error}") from None
        gone = await self._store.write(partial(uploads.complete, key=row.key))
        self._ended.labels("complete").inc()
        for key in gone:
            await asyncio.to_thread(self.files.remove, key)

    async def _arrived(self, key: str, at: int) -> None:
        if not await self._store.write(partial(uploads.arrived, key=key, offset=at)):
            raise UploadError(404, "this upload has been removed")


def _check(writing: "Writing", row: Row[Any]) -> None:
    with writing.picture as file:
        if row.kind in QUESTIONS:
            file.seek(0)
            read_question(row.kind, file.read(), metadata(row.metadata))
        else:
            jpeg_size(file)


class Files:
    """The folder in which the bytes lie. Every method waits for the disk: call it in a thread."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def remove(self, key: str) -> None:
        """Remove a file; one that is not there is no error."""
        with suppress(FileNotFoundError):
            self.path(key).unlink()

    def keys(self) -> list[tuple[str, float]]:
        """All files: the key of each, and when it was written."""
        found = []
        for folder in sorted(path for path in self.folder.iterdir() if path.is_dir()):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    found.append((entry.name, entry.stat().st_mtime))
        return found


class Writing:
    """A visual's file, open and locked for whoever adds to it. Every method waits for the disk.

    Raises:
        UploadError: 423, another request is writing to it.
    """

    def __init__(self, files: Files, key: str):
        path = files.path(key)
        self._folder = path.parent
        self._is_new = not path.exists()
        if self._is_new:
            self._folder.mkdir(exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise UploadError(423, "another request is writing to this upload") from None

    @property
    def size(self) -> int:
        return os.fstat(self._file).st_size

    def begin(self, offset: int) -> None:
        """Cut off what was never acknowledged, and write from there on."""
        os.ftruncate(self._file, offset)
        os.lseek(self._file, offset, os.SEEK_SET)

    @property
    def picture(self) -> BinaryIO:
        """The file, to read from; it stays open and locked when this is closed."""
        return os.fdopen(self._file, "rb", closefd=False)

    def write(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(self._file, view) :]

    def sync(self) -> None:
        """Return when what was written survives a power cut."""
        os.fsync(self._file)
        if self._is_new:
            for folder in (self._folder, self._folder.parent):
                sync_folder(folder)
            self._is_new = False

    def close(self) -> None:
        """Close the file, and with it the lock."""
        os.close(self._file)
