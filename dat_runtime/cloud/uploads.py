"""Visuals on disk, and what the store knows of them: how far each came, which one is shown.

The store has the truth. A byte is acknowledged when the file is synced and the store has committed
how far it goes; what a file holds beyond that is cut off when the upload goes on. Whoever writes
holds a lock on the file, which ends with its process: so several workers share one folder.
"""

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    Row,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from dat_runtime.cloud import alerts
from dat_runtime.cloud.tables import events, metadata
from dat_runtime.cloud.tus import Wanted
from dat_runtime.errors import DatError

KEPT_SECONDS = 24 * 3600.0
"""How long an upload may rest before its end."""

MAX_OPEN = 128
"""Uploads of one node that have not ended."""

MAX_OPEN_BYTES = 128_000_000
"""What those of one node will have together, once they end."""

RESTS_SECONDS = 60.0
"""An upload that rests longer gives way to a new one, where a node has too many: nodes begin
visuals that they do not end, because something better came or their time was over."""

uploads = Table(
    "uploads",
    metadata,
    Column("key", Text, primary_key=True),
    Column("event", BigInteger, ForeignKey(events.c.number, ondelete="CASCADE"), nullable=False),
    Column("node", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("arrived", BigInteger, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("written_at", Double, nullable=False),
    Column("metadata", Text, nullable=False),
    Index("uploads_by_event", "event", "kind", "revision"),
    Index("uploads_by_state", "complete", "node", "written_at"),
)
"""One row a visual, whole or not: `arrived` of its `length` bytes are on disk for good. `key` names
its file and its address."""


class UploadError(DatError):
    """An upload cannot be made, or cannot go on; `status` as HTTP says it."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def key_of(event: int, kind: str, revision: int) -> str:
    """Names a visual's file and address: a digest, so that no id ever is a part of a path."""
    return hashlib.sha256(f"{event}/{kind}/{revision}".encode()).hexdigest()[:40]


def create(connection: Connection, event: Row[Any], wanted: Wanted) -> tuple[Row[Any], bool]:
    """The upload of a visual, and whether it is new: it is made unless it is there.

    A visual shows one revision of its event; that of a later revision replaces it.

    Raises:
        UploadError: 409, another length was stated before, or the revision is not there, or a later
            one is shown already; 429, the node has too many that have not ended.
    """
    revision = event.revision if wanted.revision is None else wanted.revision
    key = key_of(event.number, wanted.kind, revision)
    known = find(connection, key)
    if known is not None:
        if known.length != wanted.length:
            raise UploadError(409, f"this visual was said to have {known.length:,} bytes")
        return known, False
    if revision > event.revision:
        raise UploadError(409, f"the event has revision {event.revision}, not {revision} yet")
    newest = shown(connection, event.number, wanted.kind)
    if newest is not None and newest.revision > revision:
        raise UploadError(409, f"the visual of revision {newest.revision} is there already")
    _make_room(connection, event.node, wanted.length)
    connection.execute(
        insert(uploads).values(
            key=key,
            event=event.number,
            node=event.node,
            kind=wanted.kind,
            revision=revision,
            length=wanted.length,
            arrived=0,
            complete=False,
            written_at=time.time(),
            metadata=wanted.metadata,
        )
    )
    made = find(connection, key)
    assert made is not None
    return made, True


def _make_room(connection: Connection, node: str, length: int) -> None:
    """Let the node's longest-resting uploads give way, as far as it has too many."""
    mine = (~uploads.c.complete) & (uploads.c.node == node)
    totals = select(func.count(), func.coalesce(func.sum(uploads.c.length), 0)).where(mine)
    count, size = connection.execute(totals).one()
    too_many = count + 1 - MAX_OPEN
    too_much = size + length - MAX_OPEN_BYTES
    if too_many <= 0 and too_much <= 0:
        return
    resting = (
        select(uploads.c.key, uploads.c.length)
        .where(mine, uploads.c.written_at < time.time() - RESTS_SECONDS)
        .order_by(uploads.c.written_at)
    )
    going = []
    for key, size in connection.execute(resting):
        if too_many <= 0 and too_much <= 0:
            break
        going.append(key)
        too_many -= 1
        too_much -= size
    if too_many > 0 or too_much > 0:
        raise UploadError(429, f"{node} has {count} visuals under way")
    # Their files go when retention next looks for those that no row names.
    connection.execute(delete(uploads).where(uploads.c.key.in_(going)))


def find(connection: Connection, key: str) -> Row[Any] | None:
    """The row of an upload."""
    return connection.execute(select(uploads).where(uploads.c.key == key)).one_or_none()


def shown(
    connection: Connection, event: int, kind: str, revision: int | None = None
) -> Row[Any] | None:
    """The whole visual of an event that is shown: its latest, or that of a revision."""
    query = select(uploads).where(
        uploads.c.event == event, uploads.c.kind == kind, uploads.c.complete
    )
    if revision is not None:
        query = query.where(uploads.c.revision == revision)
    return connection.execute(query.order_by(uploads.c.revision.desc()).limit(1)).one_or_none()


def arrived(connection: Connection, key: str, offset: int) -> bool:
    """Note that bytes up to `offset` are on disk; whether the upload is still there."""
    noted = (
        update(uploads).where(uploads.c.key == key).values(arrived=offset, written_at=time.time())
    )
    return connection.execute(noted).rowcount == 1


def complete(connection: Connection, key: str) -> Sequence[str]:
    """Show a visual that is whole; the keys whose files are needed no longer.

    Older ones of its kind go; it goes itself where a later one came meanwhile.
    """
    row = find(connection, key)
    if row is None:
        return [key]
    newest = shown(connection, row.event, row.kind)
    if newest is not None and newest.revision > row.revision:
        connection.execute(delete(uploads).where(uploads.c.key == key))
        return [key]
    older = (
        delete(uploads)
        .where(
            uploads.c.event == row.event,
            uploads.c.kind == row.kind,
            uploads.c.revision < row.revision,
        )
        .returning(uploads.c.key)
    )
    gone = list(connection.execute(older).scalars())
    whole = update(uploads).where(uploads.c.key == key)
    connection.execute(whole.values(arrived=row.length, complete=True, written_at=time.time()))
    alerts.touch(connection, row.event, **{row.kind: True})
    return gone


def remove(connection: Connection, key: str) -> None:
    """Forget an upload."""
    connection.execute(delete(uploads).where(uploads.c.key == key))


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
        for folder in sorted(self.folder.iterdir()):
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
                _sync_folder(folder)
            self._is_new = False

    def close(self) -> None:
        """Close the file, and with it the lock."""
        os.close(self._file)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
