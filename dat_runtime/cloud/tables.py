"""What the receiver keeps: the tables of alerts. Visuals, reviews and nodes define their own on
the same `metadata`, in the module that writes them.

Times are seconds since 1970. `number`, `cursor` and `changed` come from one counter that only
rises, in the order of commit (`Store.take_numbers`), so that each of them is a place to go on from.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    false,
)

SCHEMA_VERSION = 1
"""Of the tables; a store that a newer program wrote is refused."""

metadata = MetaData()

store_state = Table(
    "store_state",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""`schema`, and the counter `numbers`: the last number that was taken."""

events = Table(
    "events",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, nullable=False, unique=True),
    Column("node", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("camera", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("priority", Double, nullable=False),
    Column("captured_at", Double, nullable=False),
    Column("received_at", Double, nullable=False),
    Column("cursor", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("roi", Boolean, nullable=False, server_default=false()),
    Column("box", Boolean, nullable=False, server_default=false()),
    Column("verdict", Text),
    Index("events_by_id", "id"),
    Index("events_by_cursor", "cursor"),
    Index("events_by_change", "changed"),
    Index("events_by_node", "node", "cursor"),
    Index("events_by_priority", "priority", "captured_at", "number"),
    Index("events_by_verdict", "verdict", "priority", "captured_at", "number"),
)
"""One row an event, at its newest revision.

    number       taken when the event was new
    key          NODE/ID: neither has a slash; one column, because SQLite scans for a list of pairs
    cursor       taken when its newest revision came: the order of `GET /v1/events`
    changed      taken when anything of it changed last: revision, visual or verdict
    received_at  when its newest revision came, the receiver's clock
    roi, box     whether that visual is there, complete
    verdict      of the last review: "confirmed", "dismissed" or null

Whoever adds a visual or a verdict calls `alerts.touch`, which sets `changed` too.
"""

revisions = Table(
    "revisions",
    metadata,
    Column("event", BigInteger, ForeignKey(events.c.number, ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("received_at", Double, nullable=False),
    Column("digest", Text, nullable=False),
    Column("content", Text, nullable=False),
)
"""Every revision of every event: `content` is the CloudEvent as JSON with sorted keys, `digest` its
sha256."""
