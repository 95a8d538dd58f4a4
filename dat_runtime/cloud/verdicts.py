"""Verdicts in the store: an operator confirms or dismisses an event, and may change their mind.

Every review is kept; the latest one counts. "open" takes a verdict back. An event that was
dismissed and becomes worse is opened again by the receiver itself, with a review that says so.
Functions on a connection, no HTTP.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
    Select,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)

from dat_runtime.cloud import listing
from dat_runtime.cloud.alerts import MAX_KEYS, Received, touch
from dat_runtime.cloud.store import Store
from dat_runtime.cloud.tables import events, metadata, revisions

Verdict = Literal["confirmed", "dismissed", "open"]

MAX_HISTORY = 100
"""Reviews that the details of an event tell, the newest first."""

RECEIVER = "receiver"
"""Who opens an event again that has become worse."""

reviews = Table(
    "reviews",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("event", BigInteger, ForeignKey(events.c.number, ondelete="CASCADE"), nullable=False),
    Column("verdict", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("priority", Double, nullable=False),
    Column("current", Boolean, nullable=False),
    Index("reviews_by_event", "event", "number"),
)
"""Every review, numbered in the order of commit.

    revision, priority  what was judged
    current             whether it is the latest of its event
"""


@dataclass(frozen=True)
class Review:
    """What someone says of an event; `revision` is what they saw, `None` for the newest one."""

    verdict: Verdict
    note: str
    by: str
    revision: int | None


class Outdated(Exception):
    """The event is not what was judged any more."""


def record(connection: Connection, row: Row[Any], review: Review, now: float) -> bool:
    """Keep a review; `False` when the latest one of the event says the same already.

    Args:
        row: of `events`.

    Raises:
        ValueError: no such revision.
        Outdated: the event has become worse than what is dismissed.
    """
    revision = row.revision if review.revision is None else review.revision
    priority = _priority(connection, row, revision)
    if review.verdict == "dismissed" and priority < row.priority:
        raise Outdated(
            f"revision {row.revision} is worse than {revision}, which is dismissed: look again"
        )
    latest = _latest(connection, row.number)
    said = (review.verdict, review.note, review.by, revision)
    if latest is None and review.verdict == "open":
        return False
    if latest is not None and said == (latest.verdict, latest.note, latest.by, latest.revision):
        return False
    _keep(connection, row.number, review, now, revision, priority)
    return True


def _keep(
    connection: Connection, event: int, review: Review, now: float, revision: int, priority: float
) -> None:
    earlier = (reviews.c.event == event) & reviews.c.current
    connection.execute(update(reviews).where(earlier).values(current=False))
    values = asdict(review) | {
        "number": Store.take_numbers(connection, 1),
        "event": event,
        "at": now,
        "revision": revision,
        "priority": priority,
        "current": True,
    }
    connection.execute(insert(reviews).values(values))
    touch(connection, event, verdict=None if review.verdict == "open" else review.verdict)


def _latest(connection: Connection, event: int) -> Row[Any] | None:
    return connection.execute(
        select(reviews).where(reviews.c.event == event, reviews.c.current)
    ).one_or_none()


def _priority(connection: Connection, row: Row[Any], revision: int) -> float:
    """The priority that a revision of an event states."""
    if revision == row.revision:
        return float(row.priority)
    content = connection.execute(
        select(revisions.c.content).where(
            revisions.c.event == row.number, revisions.c.revision == revision
        )
    ).scalar()
    if content is None:
        raise ValueError(f"revision is {revision}, the event has no such revision")
    return float(json.loads(content)["data"]["priority"])


def reopen_worse(connection: Connection, alerts: Sequence[Received]) -> None:
    """Open events again that were dismissed and have become worse. Runs as alerts are recorded."""
    keys = sorted({one.key for one in alerts if one.alert.revision > 0})
    for start in range(0, len(keys), MAX_KEYS):
        worse = _WORSE.where(events.c.key.in_(keys[start : start + MAX_KEYS]))
        for number, revision, priority, dismissed in connection.execute(worse).all():
            note = f"priority rose from {dismissed:.2f} to {priority:.2f} after it was dismissed"
            review = Review("open", note, RECEIVER, revision)
            _keep(connection, number, review, time.time(), revision, priority)


_WORSE = (
    select(events.c.number, events.c.revision, events.c.priority, reviews.c.priority)
    .join(reviews, (reviews.c.event == events.c.number) & reviews.c.current)
    .where(reviews.c.verdict == "dismissed", events.c.priority > reviews.c.priority)
)


def history(connection: Connection, event: int) -> list[dict[str, Any]]:
    """The reviews of an event, the newest first."""
    query = select(*_LABELLED).where(reviews.c.event == event).order_by(reviews.c.number.desc())
    return [_shown(row) for row in connection.execute(query.limit(MAX_HISTORY))]


def page(connection: Connection, after: int, limit: int, node: str | None) -> list[dict[str, Any]]:
    """Every review in the order of commit, with the node and id of its event."""
    query = (
        select(*_LABELLED, events.c.node, events.c.id)
        .join(events, events.c.number == reviews.c.event)
        .where(reviews.c.number > after)
        .order_by(reviews.c.number)
    )
    rows = connection.execute(_of_node(query, node).limit(limit))
    return [{"node": row.node, "id": row.id} | _shown(row) for row in rows]


def current(
    connection: Connection, after: int, limit: int, node: str | None
) -> list[dict[str, Any]]:
    """The verdicts that count, each with its event, the newest first; `after` 0 begins."""
    query = (
        select(events, revisions.c.content, *_LABELLED)
        .join(reviews, reviews.c.event == events.c.number)
        .join(revisions, revisions.c.event == events.c.number)
        .where(revisions.c.revision == events.c.revision)
        .where(reviews.c.current, reviews.c.verdict != "open")
        .order_by(reviews.c.number.desc())
    )
    if after:
        query = query.where(reviews.c.number < after)
    rows = listing.within(connection, _of_node(query, node).limit(limit))
    return [_shown(row) | {"event": listing.shown(row)} for row in rows]


def summary(connection: Connection, node: str | None) -> dict[str, Any]:
    """How many events are open, confirmed and dismissed; the receiver's clock; and the place in
    `GET /v1/events?order=changed` from which on things change after this answer."""
    judged = (
        select(reviews.c.verdict, func.count())
        .join(events, events.c.number == reviews.c.event)
        .where(reviews.c.current, reviews.c.verdict != "open")
        .group_by(reviews.c.verdict)
    )
    counts = {"confirmed": 0, "dismissed": 0}
    for verdict, count in connection.execute(_of_node(judged, node)):
        counts[verdict] = count
    total = connection.execute(
        _of_node(select(func.count()).select_from(events), node)
    ).scalar_one()
    changed = connection.execute(select(func.max(events.c.changed))).scalar()
    return {
        "open": total - counts["confirmed"] - counts["dismissed"],
        **counts,
        "now": time.time(),
        "changed": changed or 0,
    }


def _of_node(query: Select[Any], node: str | None) -> Select[Any]:
    return query if node is None else query.where(events.c.node == node)


_TOLD = {
    "cursor": reviews.c.number,
    "verdict": reviews.c.verdict,
    "note": reviews.c.note,
    "by": reviews.c.by,
    "at": reviews.c.at,
    "revision": reviews.c.revision,
}
_LABELLED = [column.label(f"review_{name}") for name, column in _TOLD.items()]
"""Beside the columns of `events`, some of which have the same names."""


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {name: row._mapping[f"review_{name}"] for name in _TOLD}
