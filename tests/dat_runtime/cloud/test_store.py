"""The store: what it says is kept is committed, on both databases."""

import asyncio

from sqlalchemy import select

from dat_runtime.cloud.store import Store
from dat_runtime.cloud.tables import store_state


def test_numbers_rise_in_the_order_of_commit(store_url: str) -> None:
    async def take() -> list[int]:
        return await asyncio.gather(
            *(store.write(lambda connection: Store.take_numbers(connection, 2)) for _ in range(50))
        )

    store = Store(store_url)
    assert asyncio.run(take()) == list(range(1, 100, 2))
    store.close()


def test_what_was_written_is_read(store_url: str) -> None:
    async def number() -> int:
        await store.write(lambda connection: Store.take_numbers(connection, 5))
        query = select(store_state.c.value).where(store_state.c.name == "numbers")
        return await store.read(lambda connection: connection.execute(query).scalar_one())

    store = Store(store_url)
    assert asyncio.run(number()) == 5
    store.close()


def test_a_receiver_listens(receiver) -> None:  # type: ignore[no-untyped-def]
    assert receiver.client.get("/nowhere").status_code == 404
