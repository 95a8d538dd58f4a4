"""How the two databases are opened, and what is told of a store that fails."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from sqlalchemy import Connection, delete, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dat_runtime.cloud import database
from dat_runtime.cloud import store as module
from dat_runtime.cloud.database import checked_url, engines
from dat_runtime.cloud.store import Store, StoreBusy, StoreError
from dat_runtime.cloud.tables import SCHEMA_VERSION, store_state

EXPECTED = "expected sqlite:///PATH or postgresql://USER@HOST/DATABASE"


def test_an_address_gets_the_driver_that_is_used() -> None:
    for given, driver in (
        ("sqlite:///r.db", "sqlite"),
        ("sqlite+aiosqlite:///r.db", "sqlite"),
        ("postgresql://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+asyncpg://h/d", "postgresql+psycopg"),
    ):
        url = checked_url(given)
        assert (url.drivername, url.database) == (driver, given.rpartition("/")[2])


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("receiver.db", f"--store is not an address, {EXPECTED}"),
        ("sqlite://", f"--store is sqlite://, {EXPECTED}"),
        ("sqlite:///:memory:", f"--store is sqlite:///%3Amemory%3A, {EXPECTED}"),
        ("mysql://u:secret@h/d", f"--store is mysql://u:***@h/d, {EXPECTED}"),
    ],
)
def test_what_is_no_address_of_a_store_is_told(url: str, words: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011
        checked_url(url)
    assert str(told.value) == words
    with pytest.raises(StoreError) as again:
        Store(url)
    assert str(again.value) == words


def test_sqlite_waits_for_the_disk_and_begins_where_we_say_so(tmp_path: Path) -> None:
    writer, reader = engines(make_url(f"sqlite:///{tmp_path}/r.db"))
    settings = ("busy_timeout", "journal_mode", "synchronous", "foreign_keys", "cache_size")
    for engine, connections in ((writer, 1), (reader, 4)):
        with engine.connect() as connection:
            told = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in settings]
        assert told == [10_000, "wal", 2, 1, -8_000]
        held = [engine.connect() for _ in range(connections)]
        assert engine.pool.checkedout() == connections  # type: ignore[attr-defined]
        engine.pool._timeout = 0.01  # type: ignore[attr-defined]
        with pytest.raises(PoolTimeout):
            engine.connect()
        for connection in held:
            connection.close()
    with closing(sqlite3.connect(tmp_path / "r.db", timeout=0, isolation_level=None)) as other:
        with reader.connect() as connection, connection.begin():
            other.execute("BEGIN IMMEDIATE")  # who reads keeps nobody from writing
            other.rollback()
        with (
            writer.connect() as connection,
            connection.begin(),
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")
    writer.dispose()
    reader.dispose()


def test_postgresql_is_asked_for_patience_and_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(database, "create_engine", lambda url, **more: asked.append(more))
    patience = {
        "connect_timeout": 5,
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": 15_000,
        "options": "-c lock_timeout=10s",
    }
    engines(make_url("postgresql://h/d"))
    same = {"max_overflow": 0, "pool_pre_ping": True, "connect_args": patience}
    assert asked == [
        {"pool_size": 1, "isolation_level": "READ COMMITTED"} | same,
        {"pool_size": 4, "isolation_level": "REPEATABLE READ"} | same,
    ]
    engines(make_url("postgresql://h/d?connect_timeout=2&options=x"))
    del patience["connect_timeout"], patience["options"]  # those of the address go first
    assert asked[2]["connect_args"] == patience


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/r.db")
    yield store
    store.close()


def value(store: Store, name: str) -> int | None:
    query = select(store_state.c.value).where(store_state.c.name == name)
    found: int | None = asyncio.run(store.read(lambda c: c.execute(query).scalar()))
    return found


def test_a_new_store_has_its_counters_and_an_old_one_gets_what_it_lacks(
    store: Store, tmp_path: Path
) -> None:
    assert store.name == f"sqlite:///{tmp_path}/r.db"
    state = {name: value(store, name) for name in ("schema", "numbers", "checked_at")}
    assert state == {"schema": SCHEMA_VERSION, "numbers": 0, "checked_at": 0}
    began = int(time.time())
    asyncio.run(store.check())
    checked = value(store, "checked_at")
    assert checked is not None
    assert began <= checked <= time.time()

    def older(connection: Connection) -> None:
        connection.execute(delete(store_state).where(store_state.c.name == "checked_at"))
        assert Store.take_numbers(connection, 5) == 1
        assert Store.take_numbers(connection, 1) == 6

    asyncio.run(store.write(older))
    again = Store(store.name)
    assert (value(again, "checked_at"), value(again, "numbers")) == (0, 6)
    again.close()

    newer = update(store_state).where(store_state.c.name == "schema")
    asyncio.run(store.write(lambda c: c.execute(newer.values(value=SCHEMA_VERSION + 1))))
    with pytest.raises(StoreError) as told:
        Store(store.name)
    assert str(told.value) == (
        f"the store {store.name} has schema 2, this program writes 1: "
        "install the newer dat-runtime that wrote it"
    )


def test_a_store_has_threads_by_name_that_hold_up_no_end(store: Store) -> None:
    value(store, "numbers")
    threads = {thread.name: thread.daemon for thread in threading.enumerate()}
    assert threads["store-write"]
    assert "store-read_0" in threads
    assert store._pool._max_workers == 4


def failing(words: str) -> Callable[[Connection], Any]:
    def work(connection: Connection) -> Any:
        raise OperationalError("INSERT", {}, Exception(words))

    return work


def test_a_failure_of_the_store_is_told_once_until_it_keeps_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def write(work: Callable[[Connection], Any]) -> str:
        try:
            return str(asyncio.run(store.write(work)))
        except StoreError as error:
            return str(error)

    said = "the store keeps nothing at the moment: "
    full, other, well = failing("disk\n is full"), failing("gone"), lambda _: "kept"
    with caplog.at_level(logging.ERROR, "dat_runtime.cloud"):
        assert [write(work) for work in (full, full)] == [said + "disk is full"] * 2
        assert store.problem == "disk is full"
        assert write(other) == said + "gone"
        assert (write(well), store.problem) == ("kept", "")
        assert write(other) == said + "gone"
    assert [record.message for record in caplog.records] == [
        "the store keeps nothing: disk is full",
        "the store keeps nothing: gone",
        "the store keeps nothing: gone",
    ]


def test_the_drivers_own_words_are_told_on_one_line() -> None:
    words = module._words
    assert words(OperationalError("SELECT", {}, Exception("a\n  b"))) == "a b"
    assert words(KeyError()) == "KeyError"
    assert words(ValueError("x" * 400)) == "x" * 300
    assert words(DBAPIError("SELECT", {}, None)).startswith("(builtins.NoneType)")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [OperationalError("S", {}, Exception("gone")), InterfaceError("S", {}, Exception("gone"))],
)
def test_what_cannot_be_read_is_told(store: Store, error: Exception) -> None:
    def broken(connection: Connection) -> None:
        raise error

    with pytest.raises(StoreError, match=r"^the store cannot be read: gone$"):
        asyncio.run(store.read(broken))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(store.read(lambda _: 1 // 0))


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/no/r.db"
    before = threading.enumerate()
    with pytest.raises(StoreError) as told:
        Store(url)
    assert str(told.value) == f"the store {url} cannot be opened: unable to open database file"
    assert set(threading.enumerate()) <= set(before)


Scenario = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]


def blocked(store: Store, scenario: Scenario) -> None:
    """Run while the writer is busy, until the scenario lets it go on."""
    go_on, began = threading.Event(), threading.Event()

    def work(_: Connection) -> None:
        began.set()
        go_on.wait(20)

    async def run() -> None:
        first = asyncio.ensure_future(store.write(work))
        await asyncio.to_thread(began.wait, 20)
        try:
            await scenario(go_on.set)
        finally:
            go_on.set()
        await first

    asyncio.run(run())


def test_what_waits_is_counted_bounded_and_refused_in_words(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)

    async def scenario(go_on: Callable[[], None]) -> None:
        works = [asyncio.ensure_future(store.write(lambda _: 1)) for _ in range(2)]
        await asyncio.sleep(0)
        assert store.waiting == 2
        with pytest.raises(StoreBusy) as told:
            await store.write(lambda _: 1)
        assert str(told.value) == f"2 writes wait for {store.name} already"
        go_on()
        assert await asyncio.gather(*works) == [1, 1]
        assert store.waiting == 0

    blocked(store, scenario)


def test_what_waits_goes_in_groups_of_so_many_items(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GROUP", 4)
    calls: list[list[int]] = []

    def work(connection: Connection, items: list[int]) -> list[int]:
        calls.append(list(items))
        return [-item for item in items]

    async def scenario(go_on: Callable[[], None]) -> None:
        sent = ([1, 2], [3], [4, 5], [6], [7])
        works = [asyncio.ensure_future(store.write_together(work, items)) for items in sent]
        await asyncio.sleep(0)
        go_on()
        assert await asyncio.gather(*works) == [[-1, -2], [-3], [-4, -5], [-6], [-7]]
        assert calls == [[1, 2, 3, 4, 5], [6, 7]]

    blocked(store, scenario)


def test_who_has_gone_is_told_nothing_and_others_are(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(go_on: Callable[[], None]) -> None:
        gone, stays = (asyncio.ensure_future(store.write(lambda _: 1)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        go_on()
        assert await stays == 1
        assert gone.cancelled()

    blocked(store, scenario)

    async def leaves() -> None:
        works = [asyncio.ensure_future(store.write(lambda _: time.sleep(0.1))) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(work.done() for work in works)

    with caplog.at_level(logging.WARNING, "dat_runtime.cloud"):
        asyncio.run(leaves())
        store.close()
    lines = [record.message for record in caplog.records]
    assert all("writes were committed after their callers left" in line for line in lines)
    assert sum(int(line.split()[0]) for line in lines) == 2


def test_who_writes_to_postgresql_waits_for_the_others(store: Store) -> None:
    asked: list[str] = []
    connection: Any = SimpleNamespace(execute=lambda statement: asked.append(str(statement)))
    store._lock(connection)
    assert asked == []  # SQLite's BEGIN IMMEDIATE has waited
    store.url = make_url("postgresql+psycopg://h/d")
    store._lock(connection)
    assert asked == ["SELECT pg_advisory_xact_lock(1684108289)"]


def test_a_store_that_ends_takes_nothing_more(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError, match=r"^the receiver is ending$"):
        asyncio.run(store.write(lambda _: 1))
