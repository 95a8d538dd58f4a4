"""The store: what it says is kept is committed, on both databases."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text, update

from dat_runtime.cloud import store as store_module
from dat_runtime.cloud.store import _ADVISORY_LOCK, Store, StoreBusy, StoreError
from dat_runtime.cloud.tables import SCHEMA_VERSION, store_state
from tests.dat_runtime.cloud.conftest import connected


def within(url: str, use: Callable[[Store], Coroutine[Any, Any, Any]]) -> Any:
    """What `use` returns of a store that is closed afterwards."""
    store = Store(url)
    try:
        return asyncio.run(use(store))
    finally:
        store.close()


def take(connection: Connection) -> int:
    return Store.take_numbers(connection, 1)


def put(name: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(insert(store_state).values(name=name, value=0))

    return work


def names(connection: Connection) -> set[str]:
    return set(connection.execute(select(store_state.c.name)).scalars())


def test_numbers_rise_in_the_order_of_commit_with_several_writers(store_url: str) -> None:
    async def use(one: Store) -> list[int]:
        other = Store(store_url)  # as another worker has it
        taken = [store.write(take) for _ in range(50) for store in (one, other)]
        numbers = await asyncio.gather(*taken)
        await asyncio.to_thread(other.close)
        return sorted(numbers)

    assert within(store_url, use) == list(range(1, 101))


def test_a_reader_sees_no_number_before_a_lower_one(store_url: str) -> None:
    """Two workers write; whoever goes on from the highest number that was seen misses nothing."""
    ended = threading.Event()

    async def write(store: Store, name: str) -> None:
        def work(connection: Connection) -> None:
            number = Store.take_numbers(connection, 1)
            connection.execute(insert(store_state).values(name=f"{name}{number}", value=number))

        for _ in range(40):
            await store.write(work)

    async def use(one: Store) -> list[int]:
        other = Store(store_url)
        query = select(store_state.c.value).where(store_state.c.name.like("w%"))
        seen: list[int] = []

        async def follow() -> None:
            while not ended.is_set() or await look():
                await asyncio.sleep(0)

        async def look() -> int:
            last = seen[-1] if seen else 0
            later = query.where(store_state.c.value > last).order_by(store_state.c.value)
            new = list(await one.read(lambda c: c.execute(later).scalars().all()))
            seen.extend(new)
            return len(new)

        following = asyncio.create_task(follow())
        await asyncio.gather(write(one, "wa"), write(other, "wb"))
        ended.set()
        await following
        await asyncio.to_thread(other.close)
        return seen

    assert within(store_url, use) == list(range(1, 81))


def test_an_error_undoes_its_own_work_only(store_url: str) -> None:
    def broken(connection: Connection) -> None:
        put("broken")(connection)
        raise KeyError("broken")

    def twice(connection: Connection) -> None:
        put("schema")(connection)

    async def use(store: Store) -> tuple[list[Any], set[str]]:
        works = [store.write(work) for work in (put("a"), broken, twice, put("b"))]
        return await asyncio.gather(*works, return_exceptions=True), await store.read(names)

    results, kept = within(store_url, use)
    assert [type(r).__name__ for r in results] == [
        "NoneType",
        "KeyError",
        "IntegrityError",
        "NoneType",
    ]
    assert {"a", "b"} <= kept
    assert "broken" not in kept


def test_items_that_wait_go_together_and_one_that_fails_fails_alone(store_url: str) -> None:
    calls: list[list[str]] = []

    def work(connection: Connection, items: list[str]) -> list[str]:
        calls.append(list(items))
        for name in items:
            put(name)(connection)
        return [name.upper() for name in items]

    async def use(store: Store) -> list[Any]:
        blocked = threading.Event()
        first = asyncio.ensure_future(store.write(lambda _: blocked.wait(10)))
        waiting = [store.write_together(work, items) for items in (["a"], ["b", "c"], ["schema"])]
        gathered = asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0.05)
        blocked.set()
        await first
        return await gathered

    a, bc, schema = within(store_url, use)
    assert (a, bc) == (["A"], ["B", "C"])
    assert type(schema).__name__ == "IntegrityError"
    assert calls == [["a", "b", "c", "schema"], ["a"], ["b", "c"], ["schema"]]


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_WAITING", 3)

    async def use(store: Store) -> list[Any]:
        blocked = threading.Event()
        first = asyncio.ensure_future(store.write(lambda _: blocked.wait(10)))
        while not (await asyncio.sleep(0.01)) and store.waiting:
            pass  # until the writer has taken it
        more = asyncio.gather(*(store.write(take) for _ in range(5)), return_exceptions=True)
        await asyncio.sleep(0.05)
        blocked.set()
        await first
        return await more

    results = within(f"sqlite:///{tmp_path}/a.db", use)
    assert results[:3] == [1, 2, 3]
    assert all(isinstance(result, StoreBusy) for result in results[3:])


def test_closing_commits_what_waits_and_takes_nothing_more(store_url: str) -> None:
    async def use(store: Store) -> list[Any]:
        works = [asyncio.ensure_future(store.write(take)) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.to_thread(store.close)
        with pytest.raises(StoreError, match="ending"):
            await store.write(take)
        return await asyncio.gather(*works)

    store = Store(store_url)
    assert asyncio.run(use(store)) == list(range(1, 21))
    assert within(store_url, lambda again: again.write(take)) == 21


def test_a_store_of_a_newer_program_is_refused_by_its_number(store_url: str) -> None:
    newer = update(store_state).where(store_state.c.name == "schema").values(value=99)
    within(store_url, lambda store: store.write(lambda c: c.execute(newer) and None))
    with pytest.raises(StoreError, match=f"schema 99, this program writes {SCHEMA_VERSION}"):
        Store(store_url)


@pytest.mark.parametrize(
    "url",
    ["", "receiver.db", "mysql://x", "sqlite://", "sqlite:///:memory:", "postgresql+nope://x",
     "sqlite:////nowhere/at/all.db", "postgresql://127.0.0.1:1/x?connect_timeout=2"],
)  # fmt: skip
def test_what_is_no_store_is_refused_in_words(url: str) -> None:
    with pytest.raises(StoreError, match="store"):
        Store(url)


def test_a_password_is_not_told() -> None:
    with pytest.raises(StoreError) as told:
        Store("postgresql://dat:secret@127.0.0.1:1/x?connect_timeout=2")
    assert "secret" not in str(told.value)


END_OTHERS = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database()"""


def test_connections_that_the_database_closed_are_replaced(make_database: Any) -> None:
    url = make_database()

    async def use(store: Store) -> int:
        await store.write(take)
        await store.read(names)
        with connected(url) as connection:
            connection.execute(text(END_OTHERS))
        await store.read(names)
        return await store.write(take)

    assert within(url, use) == 2


def test_a_database_that_never_answers_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(StoreError, match=r"cannot be opened: .*timeout"):
            Store(f"postgresql://x@127.0.0.1:{port}/x?connect_timeout=2")


def test_a_lock_that_is_not_given_back_fails_the_write_and_not_the_store(
    make_database: Any,
) -> None:
    url = make_database() + "&options=-c%20lock_timeout%3D300ms"

    async def use(store: Store) -> int:
        with connected(url) as other:
            other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
            with pytest.raises(StoreError, match="lock timeout"):
                await store.write(take)
        return await store.write(take)

    assert within(url, use) == 1
