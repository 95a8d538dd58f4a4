"""The durable outbox of a node: what is put here survives until the receiver has it.

    spool = Spool(path, max_bytes, alert_reserve_bytes, counts)
    spool.put(event, camera)            # returns when the event is on the disk
    spool.alert(id), spool.visual(id, kind)
    spool.acknowledge(id, kind, revision)

SQLite with a write-ahead log. One thread writes: all that is asked for meanwhile goes into one
commit, so that many cameras share one flush of the disk. `docs/decisions/011-spool.md` says what is
promised.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.edge.counts import Counts
from dat_runtime.edge.question import Question
from dat_runtime.edge.spool_database import PAGE, Broken, connect, is_damage
from dat_runtime.edge.spool_files import Lock, SpoolError, require_own
from dat_runtime.edge.spool_tables import Entry, Tables
from dat_runtime.edge.spool_waiting import Waiting
from dat_runtime.edge.spool_writer import Writer
from dat_runtime.event import Event
from dat_runtime.planning.pending import Kind

__all__ = ["Spool", "SpoolError", "Usage", "Waiting"]

LEAST_BYTES = 1_000_000
"""A spool below this could not hold its own tables and log."""

MOST_DOWNTIME = 6 * 3600.0
"""Seconds by which a restart ages visuals at most. The wall clock says how long the node was off,
and it may have been set a day ahead meanwhile: that must not cost the evidence of a night."""

_ANY = 2**62
"""A revision above all."""


@dataclass(frozen=True)
class Usage:
    """What is kept.

    Attributes:
        bytes: of `max_bytes`, what is in use now; the files on disk keep their largest size.
        alerts, visuals, questions: that are not acknowledged.
    """

    bytes: int
    alerts: int
    visuals: int
    questions: int = 0


class Spool:
    """The events of one node that wait for their receiver; safe to use from every thread.

    Of ROI and boxed image the smaller one is kept, the one that is sent (Eq. 14).

    Args:
        path: the database; its log, lock and reserve lie beside it.
        max_bytes: what database, log and reserve take on the disk.
        alert_reserve_bytes: the part of it that visuals never take.
        counts: every drop is counted there and, in the same transaction as the drop, in the
            database; it begins with what the database has counted so far.
        clock: the wall clock. Only how long the node was off is read from it.
        monotonic: how time passes while it runs.

    Raises:
        ValueError: the sizes leave no room.
        SpoolError: another process uses the spool, it was written by a newer release or is not a
            spool, or the disk cannot be written.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        alert_reserve_bytes: int,
        counts: Counts,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        if max_bytes < LEAST_BYTES:
            raise ValueError(f"max_bytes is {max_bytes:,}, expected at least {LEAST_BYTES:,}")
        if not 0 <= alert_reserve_bytes <= max_bytes // 2:
            raise ValueError(
                f"alert_reserve_bytes is {alert_reserve_bytes:,}, at most half of max_bytes will do"
            )
        self._path, self._counts = path, counts
        self._clock, self._monotonic = clock, monotonic
        self._settled: dict[tuple[str, str], int] = {}
        """Revisions that are acknowledged or refused, but perhaps not written yet."""
        self._settling = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolError(f"cannot be made ({error.strerror})", path.parent) from None
        require_own(path)
        self._lock = Lock(path)
        with contextlib.ExitStack() as opened:
            opened.callback(self._lock.close)
            try:
                self._writer = Writer(path, max_bytes, alert_reserve_bytes, counts)
                opened.callback(self._writer.close, lambda tables: None)
                self._reader = connect(path, reading=True)
            except (sqlite3.Error, OSError) as error:
                raise SpoolError(f"cannot be used ({error})", path) from None
            opened.pop_all()
        self._started = self._age_at_start() - monotonic()

    def _age_at_start(self) -> float:
        """The spool's own clock: it goes on where it was, plus the time that the node was off."""
        saved, wall = self._writer.ask(Tables.clock)
        off = max(0.0, self._clock() - wall) if wall else 0.0
        return float(saved + min(off, MOST_DOWNTIME))

    def _now(self) -> float:
        return self._started + self._monotonic()

    # What callers ask for

    def put(self, event: Event, camera: str) -> None:
        """Keep an event; it is on the disk when this returns.

        The same event put again changes nothing. A later revision replaces what waits of an earlier
        one; an earlier one is not needed any more.

        Raises:
            SpoolError: it is not kept: the disk fails, all that waits has a higher priority and the
                spool is full, or its id was used before with other content. It is counted.
            ValueError: a number that cannot be planned with.
        """
        entry = Entry.of(event, camera)
        try:
            why_not = self._writer.ask(lambda tables: tables.put(entry, self._now()), entry.size)
        except SpoolError:
            self._counts.add("alerts_dropped", reason="the disk fails")
            raise
        if why_not is not None:
            raise why_not

    def put_question(self, question: Question) -> bool:
        """Keep what a server needs to answer about an event's newest revision; whether it is kept.

        It is on the disk when this returns. What is not kept is counted.

        Raises:
            SpoolError: the disk fails.
        """
        try:
            kept: bool = self._writer.ask(
                lambda tables: tables.questions.put(question, self._now()), len(question.content)
            )
        except SpoolError:
            self._counts.add("questions_dropped", reason="the disk fails")
            raise
        return kept

    def waiting(self) -> list[Waiting]:
        """All of which something is not acknowledged, in order of arrival.

        Raises:
            SpoolError: the disk fails.
        """
        waiting: list[Waiting] = self._writer.ask(lambda tables: tables.waiting())
        return waiting

    def alert(self, id: str) -> bytes | None:
        """The newest revision's JSON; None when it is acknowledged, refused, dropped or unknown.

        So it is when it is damaged on the disk; that is counted, and `healthy` says it.

        Raises:
            SpoolError: the disk fails.
        """
        return self._unsettled("SELECT json, revision FROM events WHERE id = ?", id, "json")

    def visual(self, id: str, kind: Kind) -> bytes | None:
        """The visual, "roi" or "box", or a question ("code"); None when it is not there (any more).

        Raises:
            SpoolError: the disk fails.
        """
        if kind == "code":
            asked = "SELECT content, revision FROM questions WHERE id = ?"
            return self._unsettled(asked, id, kind)
        question = (
            "SELECT content, visual_revision FROM events JOIN visuals ON event = number"
            " WHERE id = ? AND kind = ?"
        )
        return self._unsettled(question, id, kind)

    def acknowledge(self, id: str, kind: Kind, revision: int = 0) -> None:
        """The receiver has this unit, at this revision or a later one: let it go.

        A unit that a later `put` has replaced meanwhile stays. This does not wait for the disk: a
        kill right after it costs one repeated transmission.
        """
        self._settle(id, kind, revision, lambda tables: tables.acknowledge(id, kind, revision))

    def refuse(self, id: str, kind: Kind, reason: str, revision: int | None = None) -> None:
        """The receiver will never take this unit, at this revision (None: whichever waits).

        It is counted by its reason; the newest refused alerts are set aside in the database. The
        visual of an alert that was refused goes with it.
        """
        up_to = _ANY if revision is None else revision
        self._settle(id, kind, up_to, lambda tables: tables.refuse(id, kind, reason, up_to))

    def expire(self) -> None:
        """Let visuals go whose time is over. To be called every minute or so.

        Does not raise: `healthy` says when the disk fails.
        """

        def work(tables: Tables) -> bool:
            self._save_clock(tables)
            return tables.expire(self._now())

        with contextlib.suppress(SpoolError):  # `problem` has it
            while self._writer.ask(work):
                pass

    @property
    def usage(self) -> Usage:
        """What is kept now; zeros while the disk cannot be read."""
        try:
            used = self._read(
                "SELECT (SELECT page_count FROM pragma_page_count)"
                " - (SELECT freelist_count FROM pragma_freelist_count)"
            )
            alerts = self._read("SELECT count(*) FROM events WHERE json IS NOT NULL")
            visuals = self._read("SELECT count(*) FROM events WHERE kind IS NOT NULL")
            questions = self._read("SELECT count(*) FROM questions")
        except (SpoolError, Broken):
            return Usage(0, 0, 0)
        return Usage(used[0] * PAGE, alerts[0], visuals[0], questions[0])

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded."""
        return self._writer.problem is None

    @property
    def problem(self) -> str | None:
        """Why the last write failed, in words; None when it did not."""
        return self._writer.problem

    def close(self) -> None:
        """Write what is left and let the spool go. A second call does nothing."""
        self._writer.close(self._save_clock)
        with self._writer.reading:
            self._reader.close()
        self._lock.close()

    def _save_clock(self, tables: Tables) -> None:
        tables.save_clock(self._now(), self._clock())

    def _read(self, question: str, *values: object) -> Any:
        with self._writer.reading:
            try:
                return self._reader.execute(question, values).fetchone()
            except sqlite3.Error as error:
                self._writer.saw(error)
                if is_damage(error):
                    raise Broken(str(error)) from None
                raise SpoolError(f"cannot be read ({error})", self._path) from None

    def _unsettled(self, question: str, id: str, kind: Kind) -> bytes | None:
        """The content of a unit, unless it is settled and only not written yet."""
        # Read before the database: in between, what is settled may be written and forgotten here.
        settled = self._settled.get((id, kind), -1)
        try:
            row = self._read(question, *((id,) if kind in ("json", "code") else (id, kind)))
        except Broken:
            # What can still be read must not wait behind it.
            name = {"json": "alerts", "code": "questions"}.get(kind, "visuals")
            self._counts.add(f"{name}_dropped", reason="damaged on the disk")
            return None
        return None if row is None or row[1] <= settled else row[0]

    def _settle(self, id: str, kind: Kind, revision: int, do: Callable[[Tables], None]) -> None:
        """Have a unit let go, and seen by nobody from now on."""
        with self._settling:
            self._settled[id, kind] = max(revision, self._settled.get((id, kind), -1))
            self._writer.later(do, lambda: self._forget(id, kind, revision))

    def _forget(self, id: str, kind: Kind, revision: int) -> None:
        """It is written: the database knows by itself."""
        with self._settling:
            if self._settled.get((id, kind)) == revision:
                del self._settled[id, kind]
