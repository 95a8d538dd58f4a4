"""Lists of events, a page at a time, each going on from where the last one ended.

A place in a list is the value that the list is sorted by, never a count of rows to skip: a page far
down costs what the first one does, and nothing is missed or seen twice while others write.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, select, tuple_

from dat_runtime.cloud.tables import events, revisions
from dat_runtime.cloud.uploads import questions_of

MAX_PAGE = 1_000
"""Events on one page."""

MAX_PAGE_BYTES = 1_000_000
"""Of the contents on one page: it ends early, so that some readers of large alerts at a time do not
take the memory of all. Read, an alert takes several times its length."""

MAX_HISTORY = 100
"""Revisions of one event that are told, newest first."""

Order = Literal["commit", "changed", "priority"]
ORDERS: tuple[Order, ...] = ("commit", "changed", "priority")


@dataclass(frozen=True)
class Filter:
    """Which events to list.

    Attributes:
        node, camera: names; `None` for all.
        since: seconds since 1970: captured then or later.
        verdict: "open" for those without one, "confirmed" or "dismissed".
    """

    node: str | None = None
    camera: str | None = None
    since: float | None = None
    verdict: str | None = None


def page(
    connection: Connection, order: Order, after: str, limit: int, only: Filter
) -> tuple[list[dict[str, Any]], int | str]:
    """Events after a place, and the place after them; the same place when there are none.

    There may be fewer than `limit` and more after them (`MAX_PAGE_BYTES`): none are the end.

    Args:
        order: "commit": by their newest revision's commit; "changed": also when a visual or a
            verdict came; "priority": highest first, the newest first among equals.
        after: a place that an earlier page gave, in the same order; "" begins.

    Raises:
        ValueError: `after` is no place in this order.
    """
    query = _filtered(select(events, revisions.c.content).join(revisions, NEWEST), only)
    if order == "priority":
        rows = list(within(connection, _by_priority(query, after).limit(limit)))
        place: int | str = _priority_place(rows[-1]) if rows else after
    else:
        column = events.c.cursor if order == "commit" else events.c.changed
        place = _number(after)
        query = query.where(column > place).order_by(column)
        rows = list(within(connection, query.limit(limit)))
        place = rows[-1]._mapping[column] if rows else place
    waiting = questions_of(connection, [row.number for row in rows])
    return [shown(row, waiting.get(row.number, ())) for row in rows], place


def within(connection: Connection, query: Select[Any]) -> Iterator[Row[Any]]:
    """The rows of a query with `content` among its columns, up to `MAX_PAGE_BYTES` of it."""
    size = 0
    with connection.execute(query, execution_options={"yield_per": 20}) as rows:
        for row in rows:
            yield row
            size += len(row.content)
            if size >= MAX_PAGE_BYTES:
                return


NEWEST = (revisions.c.event == events.c.number) & (revisions.c.revision == events.c.revision)
"""Joins an event with the content of its newest revision, as `shown` needs it."""


def _filtered(query: Select[Any], only: Filter) -> Select[Any]:
    if only.node is not None:
        query = query.where(events.c.node == only.node)
    if only.camera is not None:
        query = query.where(events.c.camera == only.camera)
    if only.since is not None:
        query = query.where(events.c.captured_at >= only.since)
    if only.verdict == "open":
        query = query.where(events.c.verdict.is_(None))
    elif only.verdict is not None:
        query = query.where(events.c.verdict == only.verdict)
    return query


def _by_priority(query: Select[Any], after: str) -> Select[Any]:
    columns = (events.c.priority, events.c.captured_at, events.c.number)
    if after:
        query = query.where(tuple_(*columns) < tuple_(*_place(after)))
    return query.order_by(*(column.desc() for column in columns))


def _priority_place(row: Row[Any]) -> str:
    return f"{row.priority!r}_{row.captured_at!r}_{row.number}"


def _place(after: str) -> tuple[float, float, int]:
    try:
        priority, captured_at, number = after.split("_")
        return float(priority), float(captured_at), _number(number)
    except ValueError:
        raise ValueError(f"after is {after[:60]!r}, no place in the order of priority") from None


def _number(after: str) -> int:
    if not after:
        return 0
    if not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise ValueError(f"after is {after[:60]!r}, expected the number that `next` was")
    return int(after)


def shown(row: Row[Any], questions: Sequence[str] = ()) -> dict[str, Any]:
    """An event as the receiver tells it: the CloudEvent of its newest revision, and what the
    receiver knows of it.

    Args:
        questions: kinds of those that wait for a model's server. They are no visuals.
    """
    event: dict[str, Any] = json.loads(row.content)
    event |= {
        "node": row.node,
        "camera": row.camera,
        "received_at": row.received_at,
        "cursor": row.cursor,
        "changed": row.changed,
        "visuals": [kind for kind in ("roi", "box") if row._mapping[kind]],
        "verdict": row.verdict,
    }
    if questions:
        event["questions"] = list(questions)
    return event


def detail(connection: Connection, number: int) -> dict[str, Any]:
    """One event with its history: the CloudEvents of its revisions, the newest first."""
    query = select(events, revisions.c.content).join(revisions, NEWEST)
    row = connection.execute(query.where(events.c.number == number)).one()
    event = shown(row, questions_of(connection, [number]).get(number, ()))
    history = (
        select(revisions.c.revision, revisions.c.received_at, revisions.c.content)
        .where(revisions.c.event == number)
        .order_by(revisions.c.revision.desc())
        .limit(MAX_HISTORY)
    )
    event["history"] = [
        {
            "revision": row.revision,
            "received_at": row.received_at,
            "data": json.loads(row.content)["data"],
        }
        for row in within(connection, history)
    ]
    return event
