"""The store: many small writes in one durable transaction, SQLite or PostgreSQL.

A commit waits for the disk, and a disk does a few hundred of them a second. So one thread takes
whatever waits, runs it in one transaction, each piece of work behind a savepoint of its own, and
only then tells those who wait. Nothing is acknowledged that is not committed.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, insert, select, text, update
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dat_runtime.cloud.database import READERS, checked_url, engines
from dat_runtime.cloud.tables import SCHEMA_VERSION, metadata, store_state
from dat_runtime.errors import DatError

T = TypeVar("T")
Item = TypeVar("Item")

log = logging.getLogger("dat_runtime.cloud")

MAX_WAITING = 4_096
"""Pieces of work that wait for a transaction; a further one is refused, not queued."""

MAX_GROUP = 2_000
"""Items in one transaction, a last batch apart: more than arrive while one commit waits."""

_ADVISORY_LOCK = 0x64617401
"""Held by the transaction that writes, on PostgreSQL, where several can be open at once."""


class StoreError(DatError):
    """The store cannot be opened, or cannot keep what it is given; nothing was acknowledged."""


class StoreBusy(StoreError):
    """More waits than the store takes on; the same request will do a little later."""


@dataclass
class _Work:
    """A piece of work that waits. `run` takes a list of items; a single one has one item."""

    run: Callable[[Connection, list[Any]], Sequence[Any]]
    items: list[Any]
    done: "asyncio.Future[Any]"
    results: Sequence[Any] = field(default_factory=list)
    error: Exception | None = None


class Store:
    """The database of a receiver.

    Args:
        url: `sqlite:///PATH` or `postgresql://...`.

    Attributes:
        url: of SQLAlchemy.
        problem: why the last transaction failed; "" while it did not.

    Raises:
        StoreError: no such store, it cannot be opened, or a newer program wrote it.
    """

    def __init__(self, url: str):
        try:
            self.url = checked_url(url)
        except ValueError as error:
            raise StoreError(str(error)) from None
        self.problem = ""
        self._writer, self._reader = engines(self.url)
        self._pool = ThreadPoolExecutor(READERS, "store-read")
        self._waiting: deque[_Work] = deque()
        self._ready = threading.Condition()
        self._closed = False
        try:
            self._prepare()
        except DBAPIError as error:
            self._let_go()
            raise StoreError(f"the store {self.name} cannot be opened: {_words(error)}") from None
        except StoreError:
            self._let_go()
            raise
        self._thread = threading.Thread(target=self._run, name="store-write", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The address without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for a transaction."""
        return len(self._waiting)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, after the transaction in which it ran is committed.

        An error that `work` raises undoes its own changes only and is raised here.

        Raises:
            StoreError: the transaction failed, and nothing of it is kept.
            StoreBusy: too much waits already.
        """
        return (await self.write_together(lambda connection, _: [work(connection)], [None]))[0]

    async def write_together(
        self, work: Callable[[Connection, list[Item]], Sequence[T]], items: Sequence[Item]
    ) -> Sequence[T]:
        """As `write`, for work that is cheaper for many items at once: a result for each item.

        Items of all callers that wait with the same `work` go into one call of it. When that call
        raises, each caller's items are tried alone.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._ready:
            if self._closed:
                raise StoreError("the receiver is ending")
            if len(self._waiting) >= MAX_WAITING:
                raise StoreBusy(f"{MAX_WAITING:,} writes wait for {self.name} already")
            self._waiting.append(_Work(work, list(items), future))
            self._ready.notify()
        result: Sequence[T] = await future
        return result

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, from one snapshot of what is committed.

        Raises:
            StoreError: the store cannot be read.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, work)

    async def check(self) -> None:
        """Commit something.

        Raises:
            StoreError: the store keeps nothing at the moment; the message says why.
        """
        now = int(time.time())
        seen = update(store_state).where(store_state.c.name == "checked_at").values(value=now)
        await self.write(lambda connection: connection.execute(seen))

    @staticmethod
    def take_numbers(connection: Connection, count: int) -> int:
        """The first of `count` numbers that follow one another, above all that were taken before.

        Within `write` only: there transactions come one after the other, so that the order of the
        numbers is the order of commit.
        """
        return int(connection.execute(_TAKE, {"count": count}).scalar_one()) - count + 1

    def close(self) -> None:
        """Commit what waits, and let go of the database."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()
        self._let_go()

    def _let_go(self) -> None:
        self._pool.shutdown()
        self._writer.dispose()
        self._reader.dispose()

    def _prepare(self) -> None:
        """Make the tables that are missing, and see that the others are ours to write."""
        with self._writer.connect() as connection, connection.begin():
            self._lock(connection)
            metadata.create_all(connection)
            rows = connection.execute(select(store_state.c.name, store_state.c.value))
            known = {row.name: row.value for row in rows}
            version = known.get("schema", SCHEMA_VERSION)
            if version > SCHEMA_VERSION:
                raise StoreError(
                    f"the store {self.name} has schema {version}, this program writes "
                    f"{SCHEMA_VERSION}: install the newer dat-runtime that wrote it"
                )
            for name, value in (("schema", SCHEMA_VERSION), ("numbers", 0), ("checked_at", 0)):
                if name not in known:
                    connection.execute(insert(store_state).values(name=name, value=value))

    def _lock(self, connection: Connection) -> None:
        """Wait until no other worker writes. SQLite's BEGIN IMMEDIATE has done it already."""
        if self.url.get_backend_name() == "postgresql":
            # Released when the transaction ends, after what it wrote can be seen.
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._reader.connect() as connection:
                return work(connection)
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise StoreError(f"the store cannot be read: {_words(error)}") from None

    def _run(self) -> None:
        while group := self._next_group():
            self._commit(group)
            _deliver(group)

    def _next_group(self) -> list[_Work]:
        """What waits, oldest first; empty when the store is closed and nothing waits."""
        group: list[_Work] = []
        items = 0
        with self._ready:
            self._ready.wait_for(lambda: self._waiting or self._closed)
            while self._waiting and items < MAX_GROUP:
                group.append(self._waiting.popleft())
                items += len(group[-1].items)
        return group

    def _commit(self, group: list[_Work]) -> None:
        """Run a group in one transaction; afterwards each has its results or its error."""
        try:
            with self._writer.connect() as connection, connection.begin():
                self._lock(connection)
                for run, works in _by_work(group).items():
                    _run_together(connection, run, works)
            self.problem = ""
        except Exception as error:
            if self.problem != (problem := _words(error)):  # once, not for each group
                log.error("the store keeps nothing: %s", problem)
            self.problem = problem
            for work in group:
                work.error = StoreError(f"the store keeps nothing at the moment: {self.problem}")


_TAKE = (
    update(store_state)
    .where(store_state.c.name == "numbers")
    .values(value=store_state.c.value + bindparam("count"))
    .returning(store_state.c.value)
)


def _by_work(group: list[_Work]) -> dict[Callable[..., Any], list[_Work]]:
    works: dict[Callable[..., Any], list[_Work]] = {}
    for work in group:
        works.setdefault(work.run, []).append(work)
    return works


def _run_together(connection: Connection, run: Callable[..., Any], works: list[_Work]) -> None:
    if len(works) > 1:
        together = _Work(run, [item for work in works for item in work.items], works[0].done)
        _run_alone(connection, together)
        if together.error is None:
            start = 0
            for work in works:
                work.results = together.results[start : start + len(work.items)]
                start += len(work.items)
            return
    for work in works:
        _run_alone(connection, work)


def _run_alone(connection: Connection, work: _Work) -> None:
    try:
        with connection.begin_nested():
            work.results = work.run(connection, work.items)
    except (OperationalError, InterfaceError):
        raise  # the store's failure, not this work's: a full disk, a connection that is gone
    except Exception as error:
        work.error = error


def _deliver(group: list[_Work]) -> None:
    """Tell those who wait, with one call into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[_Work]] = {}
    for work in group:
        loops.setdefault(work.done.get_loop(), []).append(work)
    for loop, works in loops.items():
        try:
            loop.call_soon_threadsafe(_settle, works)
        except RuntimeError:  # the loop ended, and with it everyone who waited
            log.warning("%d writes were committed after their callers left", len(works))


def _settle(works: list[_Work]) -> None:
    for work in works:
        if work.done.done():  # who waited has gone
            continue
        if work.error is None:
            work.done.set_result(work.results)
        else:
            work.done.set_exception(work.error)


def _words(error: BaseException) -> str:
    """The driver's own message, on one line."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split())[:300] or type(cause).__name__
