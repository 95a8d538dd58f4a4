"""One of several workers does a thing, another soon after it is gone, and trouble ends nothing."""

import asyncio
import logging
import subprocess
import sys
import time

import pytest
from sqlalchemy import update

from dat_runtime.cloud import lease
from dat_runtime.cloud.lease import Lease, forever
from dat_runtime.cloud.store import Store, StoreError


def test_one_holds_it_until_it_is_given_back_or_ends(store_url: str) -> None:
    async def scenario(store: Store) -> None:
        one, two = Lease(store, "x"), Lease(store, "x")
        assert await one.held()
        assert not await two.held()
        assert await one.held()
        assert await Lease(store, "y").held()
        await two.give_back()  # it is not theirs to give
        assert not await two.held()
        await one.give_back()
        assert await two.held()
        for until in (time.time() - 1, time.time() + 86_400):  # it ended; a clock went back
            table = lease.leases
            row = update(table).where(table.c.name == "x").values(until=until)
            await store.write(lambda connection, row=row: connection.execute(row))
            assert await Lease(store, "x").held()

    store = Store(store_url)
    asyncio.run(scenario(store))
    store.close()


def test_nobody_waits_for_a_process_of_this_machine_that_is_gone(store_url: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from dat_runtime.cloud.lease import Lease\n"
        "from dat_runtime.cloud.store import Store\n"
        "print(asyncio.run(Lease(Store(sys.argv[1]), 'x').held()), flush=True)\n"
        "sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, store_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    store = Store(store_url)
    assert not asyncio.run(Lease(store, "x").held())
    other.kill()
    other.communicate()
    assert asyncio.run(Lease(store, "x").held())
    store.close()


def test_it_is_renewed_before_it_ends(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SECONDS", 1.2)

    async def scenario(store: Store) -> None:
        one, two = Lease(store, "x"), Lease(store, "x")
        for _ in range(12):
            assert await one.held()
            assert not await two.held()
            await asyncio.sleep(0.2)

    store = Store(store_url)
    asyncio.run(scenario(store))
    store.close()


def test_neither_a_failure_nor_a_defect_ends_the_work(
    store_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "AFTER_TROUBLE", 0.01)
    steps = iter([StoreError("full"), StoreError("full"), KeyError("defect"), OSError("disk")])
    taken = 0

    async def step() -> float:
        nonlocal taken
        taken += 1
        for error in steps:
            raise error
        return 0.01

    async def scenario(store: Store) -> None:
        mine = Lease(store, "x")
        work = asyncio.create_task(forever("the work", mine, step))
        for _ in range(1_000):
            if taken > 6:
                break
            await asyncio.sleep(0.01)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert await Lease(store, "x").held()  # given back

    store = Store(store_url)
    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario(store))
    store.close()
    assert taken > 6
    assert [record.message for record in caplog.records] == [
        "the work: full",
        "the work: a defect",
        "the work: goes on",
    ]
