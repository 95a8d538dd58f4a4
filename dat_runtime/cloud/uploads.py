"""What the store knows of visuals: how far each came, and which one is shown. Functions on a
connection; `upload_files` has the bytes.
"""

import hashlib
import re
import time
from collections.abc import Sequence
from typing import Any

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
from dat_runtime.cloud.tables import events, metadata, revisions
from dat_runtime.cloud.tus import QUESTIONS, Wanted
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


class Answered(UploadError):
    """A question that was answered already: it is needed no more."""

    def __init__(self, revision: int):
        super().__init__(409, f"revision {revision} is here: the question is answered")


KEY = re.compile(r"[0-9a-f]{40}")


def key_of(event: int, kind: str, revision: int) -> str:
    """Names a visual's file and address: a digest, so that no id ever is a part of a path."""
    return hashlib.sha256(f"{event}/{kind}/{revision}".encode()).hexdigest()[:40]


def create(connection: Connection, event: Row[Any], wanted: Wanted) -> tuple[Row[Any], bool]:
    """The upload of a visual, and whether it is new: it is made unless it is there.

    A visual shows one revision of its event; that of a later revision replaces it.

    Raises:
        UploadError: 409, another length was stated before, or the revision is not there, or a later
            one is shown already; 429, the node has too many that have not ended.
        Answered: it is a question, and the revision that answers it is there.
    """
    revision = event.revision if wanted.revision is None else wanted.revision
    key = key_of(event.number, wanted.kind, revision)
    known = find(connection, key)
    if known is not None:
        if known.length != wanted.length:
            raise UploadError(409, f"this visual was said to have {known.length:,} bytes")
        return known, False
    if not _has_revision(connection, event.number, revision):
        raise UploadError(409, f"no revision {revision} of the event is here")
    if wanted.kind in QUESTIONS and _has_revision(connection, event.number, revision + 1):
        raise Answered(revision + 1)
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


def is_expected(connection: Connection, wanted: Wanted, node: str | None) -> bool:
    """Whether the alert that a visual is of is here, in that revision; `node` as in `find`."""
    try:
        event = alerts.find(connection, wanted.event, node)
    except alerts.Ambiguous:
        return True  # the refusal need not wait
    if event is None:
        return False
    return wanted.revision is None or _has_revision(connection, event.number, wanted.revision)


def _has_revision(connection: Connection, event: int, revision: int) -> bool:
    """Whether there is what a visual of that revision would show: its boxes, and its label."""
    query = select(revisions.c.revision).where(
        revisions.c.event == event, revisions.c.revision == revision
    )
    return connection.execute(query).first() is not None


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

    Older ones of its kind go; it goes itself where a later one came meanwhile. A question waits
    from now on, and nobody is shown it.
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
    if row.kind not in QUESTIONS:
        alerts.touch(connection, row.event, **{row.kind: True})
    return gone


def questions(
    connection: Connection,
    count: int,
    without: Sequence[str] = (),
    among: Sequence[str] | None = None,
) -> Sequence[Row[Any]]:
    """Questions that wait: each node's best one, then each one's second best, and so on.

    Those with the keys `without` are passed over, and where `among` is given all that it lacks.

    Of a node those of the most urgent events come first, the newest of equals; of several nodes the
    most urgent. So one that asks without end hides nobody. Each with `content` and `node` of the
    alert that it is about.
    """
    urgent = events.c.priority.desc(), uploads.c.written_at.desc()
    turn = func.row_number().over(partition_by=uploads.c.node, order_by=urgent)
    asked = uploads.c.key.not_in(without) if among is None else uploads.c.key.in_(among)
    query = (
        select(uploads, events.c.priority, revisions.c.content)
        .join(events, events.c.number == uploads.c.event)
        .join(
            revisions,
            (revisions.c.event == uploads.c.event) & (revisions.c.revision == uploads.c.revision),
        )
        .where(uploads.c.complete, uploads.c.kind.in_(QUESTIONS), asked)
        .order_by(turn, *urgent)
        .limit(count)
    )
    return connection.execute(query).all()


def questions_of(connection: Connection, numbers: Sequence[int]) -> dict[int, list[str]]:
    """The kinds of the questions that wait, by their events' numbers."""
    query = (
        select(uploads.c.event, uploads.c.kind)
        .where(uploads.c.event.in_(numbers), uploads.c.complete, uploads.c.kind.in_(QUESTIONS))
        .order_by(uploads.c.event, uploads.c.kind)
    )
    found: dict[int, list[str]] = {}
    for event, kind in connection.execute(query):
        found.setdefault(event, []).append(kind)
    return found


def remove(connection: Connection, key: str) -> None:
    """Forget an upload."""
    connection.execute(delete(uploads).where(uploads.c.key == key))
