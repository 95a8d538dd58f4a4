"""Alerts in the store: recorded once each, revised, listed. Functions on a connection, no HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from dat_runtime.alert import Alert
from dat_runtime.cloud.store import Store
from dat_runtime.cloud.tables import events


@dataclass(frozen=True)
class Received:
    """An alert as it came.

    Attributes:
        alert: what it says, checked.
        event: the CloudEvent as parsed JSON.
        content: the same as compact JSON with sorted keys.
        digest: sha256 of `content`, hexadecimal.
        received_at: seconds since 1970, the receiver's clock.
    """

    alert: Alert
    event: Mapping[str, Any]
    content: str
    digest: str
    received_at: float


class Ambiguous(Exception):
    """Several nodes have an event of that id."""


def find(connection: Connection, id: str, node: str | None = None) -> Row[Any] | None:
    """The row of `events` with that id, `None` where there is none.

    Args:
        node: whose event; `None` will do while only one node has that id.

    Raises:
        Ambiguous: several nodes have it.
    """
    query = select(events).where(events.c.id == id)
    if node is not None:
        query = query.where(events.c.node == node)
    rows = connection.execute(query.limit(2)).all()
    if len(rows) > 1:
        raise Ambiguous(id)
    return rows[0] if rows else None


def touch(connection: Connection, number: int, **values: Any) -> None:
    """Note a change of an event that is not a revision: `roi=True`, `box=True`, `verdict=...`.

    Whoever follows `GET /v1/events?order=changed` sees it. Within `Store.write` only.
    """
    changed = Store.take_numbers(connection, 1)
    connection.execute(
        update(events).where(events.c.number == number).values(changed=changed, **values)
    )
