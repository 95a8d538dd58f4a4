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
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.edge.counts import Counts
from dat_runtime.edge.spool_files import (
    Lock,
    Reserve,
    SpoolError,
    free_bytes,
    set_aside,
    sync_folder,
)
from dat_runtime.edge.spool_tables import (
    PAGE,
    Broken,
    Entry,
    Room,
    Tables,
    Waiting,
    connect,
    is_damage,
    is_full,
)
from dat_runtime.event import Event
from dat_runtime.planning.pending import Kind, require_valid, smaller_visual

__all__ = ["Spool", "SpoolError", "Usage", "Waiting"]

LEAST_BYTES = 1_000_000
"""A spool below this could not hold its own tables and log."""

LOG_BYTES = (128 * 1024, 4 * 1024 * 1024)
"""Least and most that the write-ahead log takes; in between a sixteenth of the spool."""

OVERHEAD = 2 * PAGE
"""Bytes that a put or an acknowledgment adds to the log beside content, when it has company."""

LINGER = 0.1
"""Seconds that an acknowledgment waits for others to share its commit. A kill within them costs one
repeated transmission, which the receiver recognises; a commit costs a flush of the disk."""

RETRY = 1.0
"""Seconds between attempts to write acknowledgments to a disk that failed."""

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
        alerts, visuals: that are not acknowledged.
    """

    bytes: int
    alerts: int
    visuals: int


@dataclass(frozen=True)
class _Work:
    do: Callable[[Tables], Any]
    done: "Future[Any] | None"
    """None: nobody waits for it."""
    size: int = OVERHEAD
    """Bytes that it writes to the log, about."""


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
        least, most = LOG_BYTES
        self._log_bytes = min(max(least, max_bytes // 16), most)
        self._reserve_bytes = alert_reserve_bytes
        self._most = max_bytes - 2 * self._log_bytes
        self._problem: str | None = None
        self._damaged = False
        self._queue: deque[_Work] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._written = 0
        """Bytes in the log, about."""
        self._look_again = 0.0
        self._settled: dict[tuple[str, str], int] = {}
        """Revisions that are acknowledged or refused, but not written yet."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolError(f"cannot be made ({error.strerror})", path.parent) from None
        self._lock = Lock(path)
        self._reserve = Reserve(path)
        try:
            self._tables = self._opened()
            self._reader = connect(path, reading=True)
            self._begin()
        except (sqlite3.Error, OSError) as error:
            self._lock.close()
            raise SpoolError(f"cannot be used ({error})", path) from None
        except SpoolError:
            self._lock.close()
            raise
        self._reading = threading.Lock()
        self._writer = threading.Thread(target=self._write, name="spool", daemon=True)
        self._writer.start()

    # What callers ask for

    def put(self, event: Event, camera: str) -> None:
        """Keep an event; it is on the disk when this returns.

        The same event put again changes nothing. A later revision replaces what waits of an earlier
        one; an earlier one is not needed any more.

        Raises:
            SpoolError: it is not kept: the disk fails, all that waits has a higher priority and the
                spool is full, or its id was used before with other content.
            ValueError: a number that cannot be planned with.
        """
        camera.encode()  # a ValueError here, not in the thread that writes
        pending = event.pending()
        require_valid([pending])
        unit = smaller_visual(pending)
        kind = unit[0] if unit is not None and unit[1] else None
        visual = {"roi": event.roi, "box": event.boxed, None: None}[kind]
        entry = Entry(
            event.id,
            camera,
            event.alert.revision,
            event.priority,
            event.captured_at,
            event.json,
            kind,
            visual,
        )
        try:
            why_not = self._ask(lambda tables: tables.put(entry, self._now()), entry.size)
        except SpoolError:
            self._counts.add("alerts_not_kept", reason="the disk fails")
            raise
        if why_not is not None:
            raise why_not

    def waiting(self) -> list[Waiting]:
        """All of which something is not acknowledged, in order of arrival.

        Raises:
            SpoolError: the disk fails.
        """
        waiting: list[Waiting] = self._ask(lambda tables: tables.waiting())
        return waiting

    def alert(self, id: str) -> bytes | None:
        """The newest revision's JSON; None when it is acknowledged, refused, dropped or unknown.

        Raises:
            SpoolError: the disk fails.
        """
        return self._unsettled("SELECT json, revision FROM events WHERE id = ?", id, "json")

    def visual(self, id: str, kind: Kind) -> bytes | None:
        """The visual, "roi" or "box"; None when it is not there (any more).

        Raises:
            SpoolError: the disk fails.
        """
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
            tables.save_clock(self._now(), self._clock())
            return tables.expire(self._now())

        with contextlib.suppress(SpoolError):  # `problem` has it
            while self._ask(work):
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
        except SpoolError:
            return Usage(0, 0, 0)
        return Usage(used[0] * PAGE, alerts[0], visuals[0])

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded."""
        return self._problem is None

    @property
    def problem(self) -> str | None:
        """What is wrong, in words."""
        return self._problem

    def close(self) -> None:
        """Write what is left and let the spool go. A second call does nothing."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify_all()
        self._writer.join()
        with self._reading:
            self._reader.close()
        self._tables.close()
        self._lock.close()

    # Opening

    def _opened(self) -> Tables:
        damaged = False
        while True:
            try:
                tables = Tables(self._path, self._log_bytes)
                break
            except Broken:
                set_aside(self._path)
                damaged = True
            except sqlite3.Error as error:
                # On a full disk not even the log can begin.
                if not (is_full(error) and self._reserve.give()):
                    raise
        if damaged:
            tables.begin()
            tables.count("spools_set_aside", "damaged")
            tables.commit()
        return tables

    def _begin(self) -> None:
        sync_folder(self._path.parent)
        for (name, reason), n in self._tables.counts().items():
            self._count(name, reason, n)
        saved, wall = self._tables.clock()
        off = min(max(0.0, self._clock() - wall), MOST_DOWNTIME) if wall else 0.0
        self._started = saved + off - self._monotonic()
        self._tables.room = Room(
            all=self._most // PAGE, visuals=(self._most - self._reserve_bytes) // PAGE
        )
        self._keep_reserve()

    def _now(self) -> float:
        """The spool's own clock: seconds for which it was in use, over all its runs."""
        return self._started + self._monotonic()

    # Reading

    def _read(self, question: str, *values: object) -> Any:
        with self._reading:
            try:
                return self._reader.execute(question, values).fetchone()
            except sqlite3.Error as error:
                raise SpoolError(f"cannot be read ({error})", self._path) from None

    def _unsettled(self, question: str, id: str, kind: Kind) -> bytes | None:
        """The content of a unit, unless it is settled and only not written yet."""
        # Read before the database: in between, what is settled may be written and forgotten here.
        settled = self._settled.get((id, kind), -1)
        row = self._read(question, *((id,) if kind == "json" else (id, kind)))
        return None if row is None or row[1] <= settled else row[0]

    # Writing

    def _settle(self, id: str, kind: Kind, revision: int, do: Callable[[Tables], None]) -> None:
        def work(tables: Tables) -> Callable[[], None]:
            do(tables)
            return lambda: self._forget(id, kind, revision)

        with self._wake:
            if self._closing:
                return
            self._settled[id, kind] = max(revision, self._settled.get((id, kind), -1))
            self._queue.append(_Work(work, None))
            self._wake.notify()

    def _forget(self, id: str, kind: Kind, revision: int) -> None:
        with self._wake:
            if self._settled.get((id, kind)) == revision:
                del self._settled[id, kind]

    def _ask(self, do: Callable[[Tables], Any], size: int = 0) -> Any:
        done: Future[Any] = Future()
        with self._wake:
            if self._closing:
                raise SpoolError("is closed", self._path)
            self._queue.append(_Work(do, done, size + OVERHEAD))
            self._wake.notify()
        return done.result()

    def _write(self) -> None:
        """The thread that writes, until the spool closes and nothing is left to write."""
        while group := self._next_group():
            if not self._tables.room.growing:
                self._keep_house()  # whether there is room again
            self._serve(group)
            if self._problem is None:
                self._keep_house()
        try:
            self._tables.begin()
            self._tables.save_clock(self._now(), self._clock())
            self._tables.commit()
        except sqlite3.Error:
            self._tables.rollback()

    def _next_group(self) -> list[_Work]:
        """The works of the next commit, in order; empty when the spool closes."""
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._closing)
            patience = LINGER if self._problem is None else RETRY
            self._wake.wait_for(
                lambda: self._closing or any(work.done is not None for work in self._queue),
                patience,
            )
            group: list[_Work] = []
            size = 0
            while self._queue and size <= self._log_bytes // 2:
                group.append(self._queue.popleft())
                size += group[-1].size
            return group

    def _serve(self, group: list[_Work]) -> None:
        changes = self._tables.changes
        try:
            results = self._committed(group)
        except Exception as error:  # whatever it was: nobody is told that something was kept
            self._tables.rollback()
            self._failed(group, error)
            return
        if self._tables.changes != changes:  # to read is no proof that the disk can be written
            self._problem = None
        for work, result in zip(group, results, strict=True):
            if work.done is None:
                result()
            else:
                work.done.set_result(result)

    def _committed(self, group: list[_Work]) -> list[Any]:
        """What the works gave, once all of them are on the disk."""
        if self._damaged:
            raise Broken(self._problem)
        attempts_left = 1
        while True:
            try:
                self._tables.begin()
                results = [work.do(self._tables) for work in group]
                counted = self._tables.commit()
                break
            except sqlite3.Error as error:
                self._tables.rollback()
                if not is_full(error):
                    raise
                if not self._gave_way():
                    # The last thing to try: the blocks that database and log have already.
                    attempts_left -= 1
                    if attempts_left < 0 or not self._checkpoint():
                        raise
        self._written += sum(work.size for work in group)
        for (name, reason), n in counted.items():
            self._count(name, reason, n)
        return results

    def _gave_way(self) -> bool:
        """Others have filled the disk: give up some of the reserve; False when none is left."""
        room = self._tables.room
        room.growing = False
        if not self._reserve.give():
            room.reserve_left = False
            return False
        # At once, before others take it: what waits in the log must fit into the database.
        self._checkpoint()
        return True

    def _failed(self, group: list[_Work], error: Exception) -> None:
        self._problem = str(error)
        # A damaged file is not written any more; the next start sets it aside.
        self._damaged |= isinstance(error, sqlite3.Error) and is_damage(error)
        for work in group:
            if work.done is not None:
                work.done.set_exception(SpoolError(f"keeps nothing now ({error})", self._path))
        with self._wake:
            if not self._closing:
                # What is acknowledged stays so; it is written when the disk works again.
                self._queue.extendleft(work for work in reversed(group) if work.done is None)

    def _keep_house(self) -> None:
        try:
            self._keep_log()
            self._keep_reserve()
        except OSError as error:
            self._problem = str(error)

    def _keep_log(self) -> None:
        """Move the log into the database before it outgrows its share."""
        log = self._path.with_name(self._path.name + "-wal")
        large = self._written >= self._log_bytes // 2 or log.stat().st_size > self._log_bytes
        # On a full disk the log stays as small as it can be.
        if large or not self._tables.room.growing:
            while not self._checkpoint() and self._reserve.give():
                self._tables.room.growing = False

    def _checkpoint(self) -> bool:
        """Move the log into the database; False when the disk would not have it."""
        try:
            self._tables.checkpoint("PASSIVE")
            with self._reading:  # the log begins anew only while nobody reads it
                self._tables.checkpoint("RESTART")
        except sqlite3.Error as error:
            if not is_full(error):
                self._problem = str(error)
            return False
        self._written = 0
        return True

    def _keep_reserve(self) -> None:
        """Hold on the disk what alerts may need beyond what the database has already."""
        size = min(self._reserve_bytes, max(0, self._most - self._tables.size()))
        self._reserve.shrink(size)
        room, now = self._tables.room, time.monotonic()
        if room.growing and now < self._look_again:
            return
        self._look_again = now + RETRY
        if not room.growing and free_bytes(self._path) < 2 * self._log_bytes:
            return
        room.growing = self._reserve.grow(size)
        room.reserve_left |= room.growing

    def _count(self, name: str, reason: str, n: int) -> None:
        if reason:
            self._counts.add(name, n, reason=reason)
        else:
            self._counts.add(name, n)
