"""One of several workers does a thing, another soon after it is gone, and trouble ends nothing."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, insert, select, update

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


def kept(store: Store, holder: str, until: float) -> None:
    """Write the lease `x` as another would have."""
    table = lease.leases

    def work(connection: Connection) -> None:
        connection.execute(delete(table))
        connection.execute(insert(table).values(name="x", holder=holder, until=until))

    asyncio.run(store.write(work))


ENDED = 2**22 + 1
"""No process has such a number."""


@pytest.mark.parametrize(
    ("holder", "rest", "free"),
    [
        ("elsewhere 1 p 0", 20.0, False),
        ("elsewhere 1 p 0", 45.0, False),
        ("elsewhere 1 p 0", 61.0, True),  # longer than any lasts: a clock that was set back
        ("elsewhere 1 p 0", -0.5, True),
        (f"elsewhere {ENDED} p 0", 20.0, False),
        (f"{lease._HOST} {ENDED} p 0", 20.0, True),
        (f"{lease._HOST} ME p 0", 20.0, True),  # an earlier one of the same number
        (f"{lease._HOST} ME PROCESS 0", 20.0, False),
    ],
)
def test_whose_lease_it_is_says_how_long_it_is_waited_for(
    tmp_path: Path, holder: str, rest: float, free: bool
) -> None:
    store = Store(f"sqlite:///{tmp_path}/r.db")
    holder = holder.replace("ME", str(os.getpid())).replace("PROCESS", lease._PROCESS)
    kept(store, holder, time.time() + rest)
    mine = Lease(store, "x")
    assert asyncio.run(mine.held()) is free
    with store._reader.connect() as connection:
        row = connection.execute(select(lease.leases)).one()
    store.close()
    assert (row.holder != holder) is free
    if free:
        assert row.until - time.time() == pytest.approx(lease.SECONDS, abs=5)


def test_a_process_that_lives_is_waited_for_and_left_alone() -> None:
    with subprocess.Popen(["sleep", "30"]) as other:
        try:
            assert not lease._is_gone(f"{lease._HOST} {other.pid} p 0")
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.05)
        finally:
            other.kill()


def test_a_lease_is_looked_at_again_after_a_third_of_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.5]  # soon after the machine began
    monkeypatch.setattr(lease.time, "monotonic", lambda: now[0])
    store = Store(f"sqlite:///{tmp_path}/r.db")

    async def scenario() -> None:
        mine, other = Lease(store, "x"), Lease(store, "x")
        assert await mine.held()
        assert not await other.held()
        assert not await other.held()
        await store.write(lambda connection: connection.execute(delete(lease.leases)))
        now[0] += 9.9
        assert await mine.held()  # without a look
        assert await other.held()
        now[0] += 0.2
        assert not await mine.held()

    asyncio.run(scenario())
    store.close()


class Told:
    """A lease that says what it was told to, and counts how often it was given back."""

    def __init__(self, *held: bool):
        self._held = list(held)
        self.given_back = 0

    async def held(self) -> bool:
        return self._held.pop(0)

    async def give_back(self) -> None:
        self.given_back += 1
        raise StoreError("away")


def test_nothing_is_done_while_another_holds_the_lease_and_each_pause_is_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    steps: list[Exception | float] = [2.5, OSError(), OSError(), KeyError("x"), 1.5]

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if not steps:
            raise asyncio.CancelledError

    async def step() -> float:
        now = steps.pop(0)
        if isinstance(now, Exception):
            raise now
        return now

    monkeypatch.setattr(lease.asyncio, "sleep", sleep)
    mine = Told(False, True, True, True, True, True)
    with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
        asyncio.run(forever("the work", mine, step))  # type: ignore[arg-type]
    assert pauses == [5.0, 2.5, 5.0, 5.0, 5.0, 1.5]
    assert [record.message for record in caplog.records] == [
        "the work: ",
        "the work: a defect",
        "the work: goes on",
    ]
    assert mine.given_back == 1
