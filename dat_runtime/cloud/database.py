"""The two databases that a store can be, and how they are opened."""

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

READERS = 4
"""Connections that read."""


def checked_url(url: str) -> URL:
    """The address of a store, with the driver that we use.

    Raises:
        ValueError: it is none.
    """
    expected = "expected sqlite:///PATH or postgresql://USER@HOST/DATABASE"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError(f"--store is not an address, {expected}") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed.set(drivername="sqlite")
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise ValueError(f"--store is {parsed.render_as_string(hide_password=True)}, {expected}")


def engines(url: URL) -> tuple[Engine, Engine]:
    """One that writes, with a single connection, and one that reads."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, "BEGIN IMMEDIATE", 1), _sqlite(url, "BEGIN", READERS)
    # The writer sees, after it has waited for its turn, what was committed before it.
    # All queries of one read see one state.
    return (
        _postgresql(url, "READ COMMITTED", 1),
        _postgresql(url, "REPEATABLE READ", READERS),
    )


_PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,  # milliseconds
    "options": "-c lock_timeout=10s",
}
"""A database that has gone without a word is not waited for: who writes is told 503 and comes
again. What the address says goes first."""


def _postgresql(url: URL, isolation: str, connections: int) -> Engine:
    return create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=True,
        isolation_level=isolation,
        connect_args={name: value for name, value in _PATIENCE.items() if name not in url.query},
    )


def _sqlite(url: URL, begin: str, connections: int) -> Engine:
    engine = create_engine(url, poolclass=QueuePool, pool_size=connections, max_overflow=0)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        for setting in (
            "busy_timeout = 10000",  # another worker's transaction, milliseconds
            "journal_mode = WAL",
            "synchronous = FULL",  # a commit waits for the disk
            "foreign_keys = ON",
            "cache_size = -8000",  # kibibytes
        ):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
