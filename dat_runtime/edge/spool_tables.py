"""What the spool keeps, in SQLite: the tables, and who gives way when room is short.

Everything here runs inside a transaction that `spool.Spool` begins and commits, in one thread.
"""

import contextlib
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dat_runtime.edge.spool_files import SpoolError
from dat_runtime.planning.pending import Kind, PendingEvent

SCHEMA = 1
"""`user_version` of the file."""

PAGE = 4096
"""Bytes of a page, and of the blocks of most disks: a page is torn as seldom as can be."""

PER_PAGE = PAGE - 35
"""Bytes of a large value that one page carries, at least."""

MOST_REFUSED = 64
"""Refused alerts that are kept for people to look at: 1 MB at most."""

MOST_HOLES = 1000
"""Free places among the rows that are remembered."""

LOOKED_AT = 64
"""Of these, how many are looked at for one that is large enough."""

SPARE_PAGES = 16
"""Pages by which half-empty ones may exceed what alerts are granted."""

MOST_REASONS = 32
"""Different reasons of one counter; a receiver words its refusals as it likes."""

VISUAL_LIFETIME = 24 * 3600.0
"""Seconds that a visual waits for its uplink.

After an outage of a night or a long day the operator of the next shift still gets the evidence.
After a day the alert tells where to look, and a picture of people on a stolen node is better gone.
"""

MOST_EXPIRED = 100
"""Visuals that go in one commit: its log is bounded."""

_CREATE = f"""
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


@dataclass(frozen=True)
class Entry:
    """One revision of an event, as the spool keeps it; `kind` and `visual` are None together."""

    id: str
    camera: str
    revision: int
    priority: float
    captured_at: float
    json: bytes
    kind: Kind | None
    visual: bytes | None

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.json) + len(self.visual or b"")


@dataclass(frozen=True)
class Waiting:
    """An event of which something is not acknowledged yet.

    Attributes:
        pending: as the scheduler takes it: `json_sent` when only the visual waits; of ROI and boxed
            image the one that waits.
        revision: the newest, to acknowledge what waits with.
    """

    pending: PendingEvent
    camera: str
    revision: int


@dataclass
class Room:
    """Pages that may be used. `growing` is false while others have filled the disk."""

    all: int
    visuals: int
    growing: bool = True
    reserve_left: bool = True


class Broken(Exception):
    """The file is no database, or a damaged one."""


def connect(path: Path, *, reading: bool = False) -> sqlite3.Connection:
    """A connection that any thread may use, one at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
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


class Tables:
    """The database, opened and checked.

    Args:
        log_bytes: what its log may keep.

    Raises:
        Broken: it is damaged.
        SpoolError: it is not a spool, or a newer one.
        sqlite3.Error: it cannot be opened now.
    """

    def __init__(self, path: Path, log_bytes: int):
        self.room = Room(0, 0)
        self._uncounted: Counter[tuple[str, str]] = Counter()
        self._holes: list[tuple[int, int]] = []
        """(bytes, number) of rows that are gone: a new row in the place of an old one makes no new
        page. Rows at the end would leave half-empty pages behind, which no other row could use."""
        self._arrived = self._last_place = 0
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
            self._db.executescript(f"BEGIN IMMEDIATE; {_CREATE} COMMIT;")
        found = self._one("PRAGMA integrity_check(1)")
        if found != "ok":
            raise Broken(found)
        self._arrived = self._one("SELECT coalesce(max(arrived), 0) FROM events")
        self._last_place = self._one("SELECT coalesce(max(number), 0) FROM events")

    def _one(self, question: str, *values: object) -> Any:
        return self._db.execute(question, values).fetchone()[0]

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
        self._holes.clear()
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # the error that led here tells more
                self._db.execute("ROLLBACK")

    @property
    def changes(self) -> int:
        """Rows that this connection has changed."""
        return self._db.total_changes

    def checkpoint(self, mode: Literal["PASSIVE", "RESTART"]) -> None:
        """Move the log into the database; RESTART begins it anew, in the blocks that it has."""
        self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()

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

    def clock(self) -> tuple[float, float]:
        """The spool's own clock and the wall clock, when they were last saved."""
        time, wall = self._db.execute("SELECT time, wall FROM clock").fetchone()
        # No visual was put later than now.
        put = self._db.execute("SELECT max(expires_at) FROM events WHERE kind IS NOT NULL")
        return max(time, (put.fetchone()[0] or 0.0) - VISUAL_LIFETIME), wall

    def save_clock(self, time: float, wall: float) -> None:
        self._db.execute("UPDATE clock SET time = ?, wall = ?", (time, wall))

    # Events

    def put(self, entry: Entry, now: float) -> SpoolError | None:
        """Keep a revision of an event; the error says why it was not kept."""
        digest = _digest(entry.json)
        old = self._db.execute(
            "SELECT revision, digest, json IS NOT NULL FROM events WHERE id = ?", (entry.id,)
        ).fetchone()
        if old is not None:
            revision, old_digest, waits = old
            if entry.revision == revision and digest != old_digest:
                self.count("alerts_dropped", "its id is taken")
                return SpoolError(f"event {entry.id} is there already, with other content")
            if entry.revision == revision:
                return None  # a replay
            if entry.revision < revision or waits:
                self.count("alerts_superseded")
            if entry.revision < revision:
                return None
        if not self._make_room_for_alert(entry):
            self.count("alerts_dropped", self._reason())
            return SpoolError(f"no room for event {entry.id}: all that waits has a higher priority")
        number = self._write_alert(entry, digest)
        if entry.visual is not None:
            self._put_visual(number, entry, now)
        return None

    def _write_alert(self, entry: Entry, digest: bytes) -> int:
        """Write the row; its number."""
        alert = (entry.camera, entry.revision, entry.priority, entry.captured_at, digest)
        content = (len(entry.json), entry.json, entry.id)
        changed = self._db.execute(
            "UPDATE events SET camera = ?, revision = ?, priority = ?, captured_at = ?,"
            " digest = ?, json_bytes = ?, json = ? WHERE id = ? RETURNING number",
            (*alert, *content),
        ).fetchone()
        if changed is not None:
            return int(changed[0])
        self._arrived += 1
        written = self._db.execute(
            "INSERT INTO events (camera, revision, priority, captured_at, digest, json_bytes, json,"
            " id, number, arrived, known) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            (*alert, *content, self._place(len(entry.json)), self._arrived),
        )
        return int(written.lastrowid or 0)

    def _place(self, size: int) -> int:
        """The place of a row that is gone and was as large, or a new one at the end."""
        for back, (free, number) in enumerate(reversed(self._holes[-LOOKED_AT:]), 1):
            if free >= size:
                del self._holes[-back]
                return number
        # SQLite itself would give the place of the last row once more, which may be in `_holes`.
        self._last_place += 1
        return self._last_place

    def _put_visual(self, number: int, entry: Entry, now: float) -> None:
        visual = entry.visual or b""
        digest = _digest(visual)
        old = self._db.execute(
            "SELECT kind, visual_digest FROM events WHERE number = ?", (number,)
        ).fetchone()
        if old[1] == digest:
            return  # it waits already, or is there already
        if old[0] is not None:
            self._settle_visual(number)
            self.count("visuals_superseded")
        if not self._make_room_for_visual(entry):
            self.count("visuals_dropped", self._reason())
            return
        self._db.execute("INSERT INTO visuals VALUES (?, ?)", (number, visual))
        self._db.execute(
            "UPDATE events SET kind = ?, visual_bytes = ?, visual_revision = ?,"
            " visual_digest = ?, expires_at = ? WHERE number = ?",
            (entry.kind, len(visual), entry.revision, digest, now + VISUAL_LIFETIME, number),
        )

    def acknowledge(self, id: str, kind: Kind, revision: int) -> None:
        """The receiver has this revision of the unit: it waits no longer."""
        if kind == "json":
            row = self._find(id, "json IS NOT NULL AND revision <= ?", revision)
            if row is not None:
                self._settle_alert(row, known=True)
            else:
                # A newer revision waits already, but the receiver knows the event.
                self._db.execute("UPDATE events SET known = 1 WHERE id = ?", (id,))
        else:
            row = self._find(id, "kind = ? AND visual_revision <= ?", kind, revision)
            if row is not None:
                self._settle_visual(row)
        if row is not None:
            self._tidy(row)

    def refuse(self, id: str, kind: Kind, reason: str, revision: int) -> None:
        """The receiver will never take this unit. A refused alert is set aside."""
        if kind != "json":
            row = self._find(id, "kind = ? AND visual_revision <= ?", kind, revision)
            if row is not None:
                self._settle_visual(row)
                self.count("visuals_refused", reason)
                self._tidy(row)
            return
        row = self._find(id, "json IS NOT NULL AND revision <= ?", revision)
        if row is None:
            return
        self.count("alerts_refused", reason)
        self._db.execute(
            "INSERT INTO refused (id, revision, reason, json)"
            " SELECT id, revision, ?, json FROM events WHERE number = ?",
            (reason[:1000], row),
        )
        self._db.execute(
            "DELETE FROM refused WHERE number <= (SELECT max(number) FROM refused) - ?",
            (MOST_REFUSED,),
        )
        self._settle_alert(row)
        # A receiver takes no visual of an event that it does not know.
        if self._db.execute(
            "SELECT 1 FROM events WHERE number = ? AND kind IS NOT NULL AND NOT known", (row,)
        ).fetchone():
            self._settle_visual(row)
            self.count("visuals_dropped", "its alert was refused")
        self._tidy(row)

    def expire(self, now: float) -> bool:
        """Let visuals go that have waited for `VISUAL_LIFETIME`; whether there may be more."""
        old = self._db.execute(
            "SELECT number FROM events WHERE kind IS NOT NULL AND expires_at <= ? LIMIT ?",
            (now, MOST_EXPIRED),
        ).fetchall()
        for (number,) in old:
            self._drop_visual(number, "expired")
        return len(old) == MOST_EXPIRED

    def _find(self, id: str, condition: str, *values: object) -> int | None:
        row = self._db.execute(
            f"SELECT number FROM events WHERE id = ? AND {condition}", (id, *values)
        ).fetchone()
        return None if row is None else int(row[0])

    def _settle_alert(self, number: int, *, known: bool = False) -> None:
        self._db.execute(
            "UPDATE events SET json = NULL, known = known OR ? WHERE number = ?", (known, number)
        )

    def _settle_visual(self, number: int) -> None:
        self._db.execute("DELETE FROM visuals WHERE event = ?", (number,))
        self._db.execute("UPDATE events SET kind = NULL WHERE number = ?", (number,))

    def _tidy(self, number: int) -> None:
        """Delete the row of an event of which nothing waits."""
        gone = self._db.execute(
            "DELETE FROM events WHERE number = ? AND json IS NULL AND kind IS NULL"
            " RETURNING json_bytes",
            (number,),
        ).fetchone()
        if gone is not None:
            del self._holes[: -MOST_HOLES + 1]
            self._holes.append((gone[0], number))

    # Room

    def _reason(self) -> str:
        return "the spool is full" if self.room.growing else "the disk is full"

    def _make_room_for_visual(self, entry: Entry) -> bool:
        """Let visuals of lower priority go, older ones of equal priority; False when none would do.

        While others have filled the disk no visual is taken: its log would use up the reserve.
        """
        if not self.room.growing:
            return False
        need = len(entry.visual or b"") // PER_PAGE + 3
        lack = self.used() + need - self.room.visuals
        if lack > 0:
            weaker = self._db.execute(
                "SELECT visual_bytes FROM events WHERE kind IS NOT NULL AND priority <= ?"
                " ORDER BY priority, arrived",
                (entry.priority,),
            )
            if not _reaches(weaker, lack * PAGE):
                return False
        while self.used() + need > self.room.visuals:
            if not self._drop_least_visual():
                return False
        return True

    def _make_room_for_alert(self, entry: Entry) -> bool:
        """Let visuals go, and only when none is left alerts of lower priority."""
        need = len(entry.json) // PER_PAGE + 4
        while self.used() + need > self._pages() and self._drop_least_visual():
            pass
        growing = self.room.growing or self.room.reserve_left
        if self.used() + need <= (self.room.all if growing else self._pages()):
            return True
        # Rows are smaller than pages: bytes are counted, and rows take the places of others.
        if any(size >= len(entry.json) for size, _ in self._holes[-LOOKED_AT:]):
            return True
        freed = 0
        while freed < len(entry.json) or self.used() > self.room.all + SPARE_PAGES:
            gone = self._drop_least_alert(entry.priority)
            if gone is None:
                return False
            freed += gone
        return True

    def _pages(self) -> int:
        """Pages that alerts may use before visuals have to go."""
        if self.room.growing:
            return self.room.all
        return min(self.room.all, int(self._one("PRAGMA page_count")))

    def _drop_least_visual(self) -> bool:
        least = self._db.execute(
            "SELECT number FROM events WHERE kind IS NOT NULL ORDER BY priority, arrived LIMIT 1"
        ).fetchone()
        if least is None:
            return False
        self._drop_visual(least[0], self._reason())
        return True

    def _drop_visual(self, number: int, reason: str) -> None:
        self._settle_visual(number)
        self.count("visuals_dropped", reason)
        self._tidy(number)

    def _drop_least_alert(self, most: float) -> int | None:
        """Bytes of the alert that went; None when all have a higher priority than `most`."""
        least = self._db.execute(
            "SELECT number, json_bytes FROM events WHERE json IS NOT NULL AND priority <= ?"
            " ORDER BY priority, arrived LIMIT 1",
            (most,),
        ).fetchone()
        if least is None:
            return None
        number, size = least
        self._settle_alert(number)
        self.count("alerts_dropped", self._reason())
        self._tidy(number)
        return int(size)

    # Reading what waits

    def waiting(self) -> list[Waiting]:
        """All that is not acknowledged, in order of arrival."""
        rows = self._db.execute(
            "SELECT id, camera, revision, priority, captured_at, json_bytes, json IS NULL,"
            " kind, visual_bytes FROM events ORDER BY arrived"
        )
        return [_waiting(*row) for row in rows]


def _waiting(
    id: str,
    camera: str,
    revision: int,
    priority: float,
    captured_at: float,
    json_bytes: int,
    json_sent: int,
    kind: Kind | None,
    visual_bytes: int,
) -> Waiting:
    pending = PendingEvent(
        id=id,
        priority=priority,
        json_bytes=json_bytes,
        roi_bytes=visual_bytes if kind == "roi" else None,
        box_bytes=visual_bytes if kind == "box" else None,
        captured_at=captured_at,
        json_sent=bool(json_sent),
    )
    return Waiting(pending, camera, revision)


def _reaches(rows: Iterator[tuple[int]], size: int) -> bool:
    """Whether sizes sum up to `size`, reading no more rows than it takes."""
    total = 0
    for (bytes_of_one,) in rows:
        # What is smaller than a page shares it with others.
        total += bytes_of_one
        if total >= size:
            return True
    return False


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
