"""The spool's SQLite file: opened, checked, and written in transactions.

database = Database(path, log_bytes)
database.begin(); ...; database.count("visuals_dropped", "expired"); database.commit()
"""

import contextlib
import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from dat_runtime.edge.spool_files import SpoolError

SCHEMA = 1
"""`user_version` of the file."""

PAGE = 4096
"""Bytes of a page, and of the blocks of most disks."""

WAIT_FOR_OTHERS = 0.2
"""Seconds, when somebody looks into the file with a tool of their own."""

MOST_REASONS = 32
"""Different reasons of one counter: a receiver words its refusals as it likes."""

_TABLES = f"""
CREATE TABLE events (
    number INTEGER PRIMARY KEY,      -- the place in the file
    arrived INTEGER NOT NULL,
    id TEXT NOT NULL UNIQUE,
    camera TEXT NOT NULL,
    revision INTEGER NOT NULL,
    priority REAL NOT NULL,
    captured_at REAL NOT NULL,
    digest BLOB NOT NULL,            -- of the alert, also after it is acknowledged
    json_bytes INTEGER NOT NULL,
    known INTEGER NOT NULL,          -- the receiver has some revision
    kind TEXT,                       -- of the visual; NULL when none waits
    visual_bytes INTEGER,
    visual_revision INTEGER,
    visual_digest BLOB,
    expires_at REAL,                 -- on the spool's own clock
    json BLOB                        -- NULL once acknowledged
);
CREATE INDEX alerts_by_worth ON events (priority, arrived) WHERE json IS NOT NULL;
CREATE INDEX visuals_by_worth ON events (priority, arrived) WHERE kind IS NOT NULL;
CREATE INDEX visuals_by_age ON events (expires_at) WHERE kind IS NOT NULL;
CREATE TABLE visuals (event INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE refused (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, revision INTEGER NOT NULL,
    reason TEXT NOT NULL, json BLOB NOT NULL
);
CREATE TABLE counts (
    name TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (name, reason)
) WITHOUT ROWID;
CREATE TABLE clock (time REAL NOT NULL, wall REAL NOT NULL);
INSERT INTO clock VALUES (0, 0);
PRAGMA user_version = {SCHEMA};
"""

# Later than the others: a spool of an earlier release gets it, and goes on to be read by that one.
_QUESTIONS = """
CREATE TABLE IF NOT EXISTS questions (
    id TEXT PRIMARY KEY,             -- of the event
    camera TEXT NOT NULL,
    revision INTEGER NOT NULL,
    priority REAL NOT NULL,
    captured_at REAL NOT NULL,
    kind TEXT NOT NULL,
    prompt TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    expires_at REAL NOT NULL,        -- on the spool's own clock
    content BLOB NOT NULL
)
"""


class Broken(Exception):
    """The file is no database, or a damaged one."""


def connect(path: Path, *, reading: bool = False) -> sqlite3.Connection:
    """A connection that any thread may use, one at a time.

    Raises:
        OSError: there is no file, and none can be made.
    """
    # For this user alone: it holds pictures of people. SQLite gives its log the same mode. Only
    # before the first connection: the kernel drops every lock that a process has on a file as soon
    # as it closes one descriptor of it. Without them, whoever else reads the file believes to be
    # alone, and deletes the log with what is written to it from then on.
    if not reading:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=WAIT_FOR_OTHERS
    )
    settings = [
        "synchronous=FULL",  # a commit is on the disk when it returns
        "wal_autocheckpoint=0",  # the spool says when, after it has answered
        "secure_delete=FAST",  # what is deleted is overwritten where that costs no writing
        "cache_size=-2000",  # kB
    ]
    try:
        for setting in settings + ["query_only=ON"] * reading:
            connection.execute(f"PRAGMA {setting}").close()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def is_damage(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_full(error: sqlite3.Error) -> bool:
    """Whether the disk is full; the index of the log has an error of its own for that."""
    sizes = (sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMOPEN)
    return _code(error) == sqlite3.SQLITE_FULL or getattr(error, "sqlite_errorcode", 0) in sizes


def _named(error: Exception) -> Exception:
    """The same error, but `Broken` when it says that the file is damaged."""
    damaged = isinstance(error, sqlite3.Error) and is_damage(error)
    return Broken(str(error)) if damaged else error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


class Database:
    """The file, opened and checked; for one thread at a time.

    Args:
        log_bytes: what its log may keep.

    Raises:
        Broken: it is damaged.
        SpoolError: it is not a spool, or a newer one.
        sqlite3.Error, OSError: it cannot be opened now.
    """

    def __init__(self, path: Path, log_bytes: int):
        self._uncounted: Counter[tuple[str, str]] = Counter()
        try:
            self._db = connect(path)
        except sqlite3.Error as error:
            raise _named(error) from None
        try:
            self._check(path)
            # One large visual may make the log larger; it is cut back after that.
            self._db.execute(f"PRAGMA journal_size_limit={log_bytes}")
        except (sqlite3.Error, Broken, SpoolError) as error:
            self._db.close()
            raise _named(error) from None

    def _check(self, path: Path) -> None:
        version = self._one("PRAGMA user_version")
        if version > SCHEMA:
            raise SpoolError(
                f"was written by a newer release (schema {version}, this one knows {SCHEMA})", path
            )
        if version == 0:
            if self._one("SELECT count(*) FROM sqlite_master"):
                raise SpoolError("is a database, but not a spool", path)
            self._db.execute(f"PRAGMA page_size={PAGE}")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        found = self._one("PRAGMA integrity_check(1)")
        if found != "ok":
            raise Broken(found)
        self._db.execute(_QUESTIONS)

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self._db.execute(statement, values)

    def _one(self, question: str) -> Any:
        return self._db.execute(question).fetchone()[0]

    # Transactions

    def begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> Counter[tuple[str, str]]:
        """Make all since `begin` durable; what was counted meanwhile, by name and reason."""
        self._db.executemany(
            "INSERT INTO counts VALUES (?, ?, ?)"
            " ON CONFLICT (name, reason) DO UPDATE SET n = n + excluded.n",
            [(*series, n) for series, n in self._uncounted.items()],
        )
        self._db.execute("COMMIT")
        counted, self._uncounted = self._uncounted, Counter()
        return counted

    def rollback(self) -> None:
        self._uncounted.clear()
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # the error that led here tells more
                self._db.execute("ROLLBACK")

    @property
    def changes(self) -> int:
        """Rows that this connection has changed."""
        return self._db.total_changes

    def checkpoint(self, mode: Literal["PASSIVE", "RESTART"]) -> bool:
        """Move the log into the database; RESTART begins it anew, in the blocks that it has.

        False when somebody else reads the file, and the log has to stay for them.
        """
        busy, _, _ = self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return not busy

    def close(self) -> None:
        self._db.close()

    # Numbers

    def count(self, name: str, reason: str = "") -> None:
        """Count a loss in the same transaction as the loss itself."""
        reason = reason[:80]
        known = {
            r for (r,) in self._db.execute("SELECT reason FROM counts WHERE name = ?", (name,))
        }
        known |= {r for n, r in self._uncounted if n == name}
        if reason not in known and len(known) >= MOST_REASONS:
            reason = "other"
        self._uncounted[name, reason] += 1

    def counts(self) -> dict[tuple[str, str], int]:
        """All that was ever counted, by name and reason."""
        rows = self._db.execute("SELECT name, reason, n FROM counts")
        return {(name, reason): n for name, reason, n in rows}

    def used(self) -> int:
        """Pages with content."""
        return int(self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count"))

    def size(self) -> int:
        """Bytes that the file has, or will have once the log has moved into it."""
        return int(self._one("PRAGMA page_count") * PAGE)
