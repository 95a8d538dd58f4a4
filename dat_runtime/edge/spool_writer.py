"""The one thread that writes the spool: group commits, and what to do when the disk is full.

writer = Writer(path, limits, counts)
writer.ask(lambda tables: tables.put(entry, now), size)     # returns after the commit
writer.later(lambda tables: tables.acknowledge(...), done)  # does not wait
"""

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
from dat_runtime.edge.spool_database import PAGE, Broken, Database, is_damage, is_full
from dat_runtime.edge.spool_files import (
    Reserve,
    SpoolError,
    free_bytes,
    set_aside,
)
from dat_runtime.edge.spool_room import Room
from dat_runtime.edge.spool_tables import Tables
from dat_runtime.files import sync_folder

LOG_BYTES = (128 * 1024, 4 * 1024 * 1024)
"""Least and most that the write-ahead log takes; in between a sixteenth of the spool."""

OVERHEAD = 2 * PAGE
"""Bytes that a put or an acknowledgment adds to the log beside content, when it has company."""

LINGER = 0.1
"""Seconds that an acknowledgment waits for others to share its commit. A kill within them costs one
repeated transmission, which the receiver recognises; a commit costs a flush of the disk."""

RETRY = 1.0
"""Seconds between attempts on a disk that failed, and between looks at the reserve."""


@dataclass(frozen=True)
class _Work:
    do: Callable[[Tables], Any]
    size: int
    """Bytes that it writes to the log, about."""
    answer: "Future[Any] | None" = None
    """Of who waits for it."""
    done: Callable[[], None] | None = None
    """Called after the commit, when nobody waits."""


class Writer:
    """The database of a spool, and the thread in which all of its transactions run.

    Args:
        max_bytes, reserve_bytes: as `spool.Spool` takes them.

    Attributes:
        reading: held by whoever reads the file through another connection: the log begins anew only
            while nobody reads it.
        problem: why the last write failed; None when it did not.

    Raises:
        SpoolError: it is not a spool, or a newer one.
        sqlite3.Error, OSError: the disk cannot be written.
    """

    def __init__(self, path: Path, max_bytes: int, reserve_bytes: int, counts: Counts):
        self._path, self._counts = path, counts
        least, most = LOG_BYTES
        self._log_bytes = min(max(least, max_bytes // 16), most)
        self._reserve_bytes = reserve_bytes
        # The log is moved when it is full, and one group of works may come on top.
        self._most = max_bytes - 2 * self._log_bytes
        self._reserve = Reserve(path)
        self._written = 0
        """Bytes in the log, about."""
        self._look_again = self._move_again = 0.0
        self._database = self._opened()
        room = Room(self._database, self._most // PAGE, (self._most - reserve_bytes) // PAGE)
        self.tables = Tables(self._database, room)
        sync_folder(path.parent)
        for (name, reason), n in self._database.counts().items():
            self._count(name, reason, n)
        self.problem: str | None = None
        self._damaged = False
        self.reading = threading.Lock()
        self._queue: deque[_Work] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._keep_house()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    def _opened(self) -> Database:
        damaged = False
        while True:
            try:
                database = Database(self._path, self._log_bytes)
                break
            except Broken as error:
                if damaged:
                    raise SpoolError(f"a new one is damaged too ({error})", self._path) from None
                set_aside(self._path)
                damaged = True
            except sqlite3.Error as error:
                # On a full disk not even the log can begin.
                if not (is_full(error) and self._reserve.give()):
                    raise
        if damaged:
            database.begin()
            database.count("spools_set_aside", "damaged")
            database.commit()
        return database

    # Asking

    def ask(self, do: Callable[[Tables], Any], size: int = 0) -> Any:
        """Have something done, and wait until it is on the disk; what it gave.

        Args:
            size: bytes of content.

        Raises:
            SpoolError: it was not done.
        """
        answer: Future[Any] = Future()
        if not self._put(_Work(do, size + OVERHEAD, answer=answer)):
            raise SpoolError("is closed", self._path)
        return answer.result()

    def later(self, do: Callable[[Tables], Any], done: Callable[[], None]) -> None:
        """Have something done without waiting; while the disk fails it is tried again."""
        self._put(_Work(do, OVERHEAD, done=done))

    def _put(self, work: _Work) -> bool:
        with self._wake:
            if self._closing:
                return False
            self._queue.append(work)
            self._wake.notify()
        return True

    def close(self, last: Callable[[Tables], Any]) -> None:
        """Write what is asked for, then `last`, and close. A second call does nothing."""
        with self._wake:
            if self._closing:
                return
            self._queue.append(_Work(last, OVERHEAD, done=lambda: None))
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._database.close()

    # The thread

    def _run(self) -> None:
        """Until the spool closes and nothing is left to write."""
        while group := self._next_group():
            if not self.tables.room.growing:
                self._keep_house()  # perhaps there is room again
            self._serve(group)
            if self.problem is None:
                self._keep_house()

    def _next_group(self) -> list[_Work]:
        """The works of the next commit, in order; empty when the spool closes."""
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._closing)
            self._wake.wait_for(self._is_urgent, LINGER if self.problem is None else RETRY)
            group: list[_Work] = []
            size = 0
            while self._queue and size <= self._log_bytes // 2:
                group.append(self._queue.popleft())
                size += group[-1].size
            return group

    def _is_urgent(self) -> bool:
        return self._closing or any(work.answer is not None for work in self._queue)

    def _serve(self, group: list[_Work]) -> None:
        changes = self._database.changes
        try:
            results = self._committed(group)
        except Exception as error:  # whatever it was: nobody is told that something was kept
            self._roll_back()
            self._failed(group, error)
            return
        if self._database.changes != changes:  # to read is no proof that the disk can be written
            self.problem = None
        for work, result in zip(group, results, strict=True):
            if work.answer is not None:
                work.answer.set_result(result)
            elif work.done is not None:
                work.done()

    def _committed(self, group: list[_Work]) -> list[Any]:
        """What the works gave, once all of them are on the disk."""
        if self._damaged:
            raise Broken(self.problem)
        tried_last = False
        while True:
            try:
                self._database.begin()
                results = [work.do(self.tables) for work in group]
                counted = self._database.commit()
                break
            except sqlite3.Error as error:
                self._roll_back()
                if not is_full(error) or tried_last:
                    raise
                tried_last = not self._gave_way()
        self._written += sum(work.size for work in group)
        for (name, reason), n in counted.items():
            self._count(name, reason, n)
        return results

    def _roll_back(self) -> None:
        self._database.rollback()
        self.tables.room.forget_places()

    def _failed(self, group: list[_Work], error: Exception) -> None:
        self.saw(error)
        for work in group:
            if work.answer is not None:
                words = f"keeps nothing now ({_words(error)})"
                work.answer.set_exception(SpoolError(words, self._path))
        with self._wake:
            if not self._closing:
                # What is acknowledged stays so; it is written when the disk works again.
                self._queue.extendleft(work for work in reversed(group) if work.answer is None)

    def saw(self, error: Exception) -> None:
        """Something failed, here or for a reader."""
        self.problem = _words(error)
        # A damaged file is not written any more; the next start sets it aside.
        self._damaged |= isinstance(error, sqlite3.Error) and is_damage(error)

    def _count(self, name: str, reason: str, n: int) -> None:
        if reason:
            self._counts.add(name, n, reason=reason)
        else:
            self._counts.add(name, n)

    # The disk

    def _gave_way(self) -> bool:
        """Others have filled the disk: give up some of the reserve; False when none is left."""
        room = self.tables.room
        room.growing = False
        room.reserve_left = self._reserve.give()
        # At once, before others take it: what waits in the log must fit into the database. Then
        # both have blocks that can be written again.
        self._checkpoint()
        return room.reserve_left

    def _keep_house(self) -> None:
        try:
            self._keep_log()
            self._keep_reserve()
        except Exception as error:  # short of memory SQLite raises none of its own
            self.problem = _words(error)

    def _keep_log(self) -> None:
        """Move the log into the database before it outgrows its share."""
        if time.monotonic() < self._move_again:
            return
        log = self._path.with_name(self._path.name + "-wal")
        large = self._written >= self._log_bytes // 2 or log.stat().st_size > self._log_bytes
        # On a full disk the log stays as small as it can be.
        if large or not self.tables.room.growing:
            while not self._checkpoint() and self._reserve.give():
                self.tables.room.growing = False

    def _checkpoint(self) -> bool:
        """Move the log into the database; False when the disk is full."""
        try:
            self._database.checkpoint("PASSIVE")
            with self.reading:
                begun_anew = self._database.checkpoint("RESTART")
        except sqlite3.Error as error:
            if is_full(error):
                return False
            # To give up the reserve would not help against any other error.
            self.problem = _words(error)
            self._move_again = time.monotonic() + RETRY
            return True
        self._written = 0
        if not begun_anew:  # not to wait for them at every commit
            self._move_again = time.monotonic() + RETRY
        return True

    def _keep_reserve(self) -> None:
        """Hold on the disk what alerts may need beyond what the database has already."""
        size = min(self._reserve_bytes, max(0, self._most - self._database.size()))
        self._reserve.shrink(size)
        room, now = self.tables.room, time.monotonic()
        if room.growing and now < self._look_again:
            return
        self._look_again = now + RETRY
        if not room.growing and free_bytes(self._path) < 2 * self._log_bytes:
            return
        room.growing = self._reserve.grow(size)
        room.reserve_left |= room.growing


def _words(error: Exception) -> str:
    """What it says; some say nothing, as a MemoryError."""
    return str(error) or repr(error)
