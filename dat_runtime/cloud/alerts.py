"""Alerts in the store: recorded once each, revised, found. Functions on a connection, no HTTP."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, insert, select, update

from dat_runtime.alert import Alert, read_alert
from dat_runtime.cloud.store import Store
from dat_runtime.cloud.tables import events, revisions

CREATED, UNCHANGED, CONFLICT = 201, 200, 409
"""What became of an alert, as HTTP says it: kept; there already; there with other content."""

MAX_KEYS = 500
"""Events looked up in one query."""


@dataclass(frozen=True)
class Received:
    """An alert as it came.

    Attributes:
        alert: what it says, checked.
        content: the CloudEvent as compact JSON with sorted keys.
        digest: sha256 of `content`, hexadecimal.
        received_at: seconds since 1970, the receiver's clock.
    """

    alert: Alert
    content: str
    digest: str
    received_at: float

    @property
    def key(self) -> str:
        """Of its event."""
        return key_of(self.alert.origin.node, self.alert.id)


def key_of(node: str, id: str) -> str:
    """Node and id, which together name an event."""
    return f"{node}/{id}"


def received(event: object, now: float) -> Received:
    """A CloudEvent, already parsed, as it is recorded.

    Raises:
        ValueError: names the first field that is wrong.
    """
    alert = read_alert(event)
    # Sorted: a node that writes its fields in another order says the same. Escaped: a text may
    # hold half a character or a null, which no UTF-8 column takes.
    content = _encode(event)
    return Received(alert, content, hashlib.sha256(content.encode()).hexdigest(), now)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass
class _Known:
    """An event as far as the store has it."""

    number: int | None = None
    revision: int = -1
    digests: dict[int, str] = field(default_factory=dict)


Recorded = Callable[[Connection, Sequence[Received]], None]


def record(
    connection: Connection, alerts: Sequence[Received], told: Sequence[Recorded] = ()
) -> list[int]:
    """Keep the alerts that are not there yet: `CREATED`, `UNCHANGED` or `CONFLICT` for each.

    Args:
        told: called with those that were kept, in the same transaction.
    """
    known = _known(connection, alerts)
    statuses, kept = [], []
    for one in alerts:
        event = known.setdefault(one.key, _Known())
        digest = event.digests.setdefault(one.alert.revision, "")
        if digest:
            statuses.append(UNCHANGED if digest == one.digest else CONFLICT)
        else:
            event.digests[one.alert.revision] = one.digest
            kept.append(one)
            statuses.append(CREATED)
    if kept:
        _keep(connection, kept, known)
        for tell in told:
            tell(connection, kept)
    return statuses


def _known(connection: Connection, alerts: Sequence[Received]) -> dict[str, _Known]:
    keys = sorted({one.key for one in alerts})
    wanted = sorted({one.alert.revision for one in alerts})
    known: dict[str, _Known] = {}
    for start in range(0, len(keys), MAX_KEYS):
        some = {"keys": keys[start : start + MAX_KEYS], "wanted": wanted}
        rows = connection.execute(_KNOWN, some)
        for key, number, newest, revision, digest in rows:
            event = known.setdefault(key, _Known(number, newest))
            if revision is not None:
                event.digests[revision] = digest
    return known


_KNOWN = (
    select(
        events.c.key,
        events.c.number,
        events.c.revision,
        revisions.c.revision,
        revisions.c.digest,
    )
    .outerjoin_from(
        events,
        revisions,
        and_(
            revisions.c.event == events.c.number,
            revisions.c.revision.in_(bindparam("wanted", expanding=True)),
        ),
    )
    .where(events.c.key.in_(bindparam("keys", expanding=True)))
)


def _keep(connection: Connection, alerts: Sequence[Received], known: Mapping[str, _Known]) -> None:
    """Write alerts of which the store has no such revision."""
    new: dict[str, dict[str, Any]] = {}
    newer: dict[str, dict[str, Any]] = {}
    history = []
    first = Store.take_numbers(connection, len(alerts))
    for number, one in enumerate(alerts, first):
        event = known[one.key]
        if event.number is None:
            event.number, event.revision = number, one.alert.revision
            new[one.key] = _named(one, number) | _shown(one, number)
        elif one.alert.revision > event.revision:
            event.revision = one.alert.revision
            if one.key in new:
                new[one.key].update(_shown(one, number))
            else:
                newer[one.key] = {"of": event.number} | _shown(one, number)
        history.append(_revision(event.number, one))
    if new:
        connection.execute(_INSERT, list(new.values()))
    if newer:
        connection.execute(_UPDATE, list(newer.values()))
    connection.execute(_REMEMBER, history)


def _named(one: Received, number: int) -> dict[str, Any]:
    """The columns of an event that stay."""
    return {
        "number": number,
        "key": one.key,
        "node": one.alert.origin.node,
        "id": one.alert.id,
    }


def _shown(one: Received, number: int) -> dict[str, Any]:
    """The columns of an event that its newest revision decides."""
    return {
        "camera": one.alert.origin.camera,
        "revision": one.alert.revision,
        "priority": one.alert.priority,
        "captured_at": one.alert.captured_at,
        "received_at": one.received_at,
        "cursor": number,
        "changed": number,
    }


_INSERT = insert(events)
_REMEMBER = insert(revisions)
# The values of `_shown` are bound by their names.
_UPDATE = update(events).where(events.c.number == bindparam("of"))


def _revision(number: int, one: Received) -> dict[str, Any]:
    return {
        "event": number,
        "revision": one.alert.revision,
        "received_at": one.received_at,
        "digest": one.digest,
        "content": one.content,
    }


class Ambiguous(Exception):
    """Several nodes have an event of that id."""


def find(connection: Connection, id: str, node: str | None = None) -> Row[Any] | None:
    """The row of `events` with that id, `None` where there is none.

    Args:
        node: whose event; `None` will do while only one node has that id.

    Raises:
        Ambiguous: several nodes have it.
    """
    query = select(events)
    if node is None:
        query = query.where(events.c.id == id)
    else:
        query = query.where(events.c.key == key_of(node, id))
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
