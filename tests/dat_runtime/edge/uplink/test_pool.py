"""Connections that are kept open, over connections that the test makes up."""

import asyncio

import pytest

from dat_runtime.edge.uplink import pool as module
from dat_runtime.edge.uplink.pool import Pool
from dat_runtime.edge.uplink.sender import Progress, SendError


class Line:
    """A connection on which 100 bytes arrived and 7 are under way."""

    def __init__(self, name):
        self.name, self.reusable, self.closed = name, True, 0

    def progress(self):
        return Progress(100, 7, 0.1)

    def close(self):
        self.closed += 1
        return 100


class Lines:
    """Opens lines 0, 1, 2 ... while the receiver answers."""

    def __init__(self):
        self.made = []
        self.answers = True

    async def open(self):
        await asyncio.sleep(0)
        if not self.answers:
            raise SendError("cannot connect")
        self.made.append(Line(len(self.made)))
        return self.made[-1]

    @property
    def closed(self):
        return [line.name for line in self.made if line.closed]


def run(work, *, spare=False):
    """What work with a pool and its lines gives."""

    async def go():
        lines = Lines()
        pool = Pool(lines.open, spare=True) if spare else Pool(lines.open)
        try:
            return await work(pool, lines)
        finally:
            await pool.close()

    return asyncio.run(go())


def test_the_connection_used_last_is_used_again_and_two_requests_have_two():
    async def work(pool, lines):
        async with pool.connection() as first, pool.connection() as second:
            pass  # the second is given back first, the first last
        async with pool.connection() as third:
            return [first.name, second.name, third.name], lines.closed

    assert run(work) == ([0, 1, 0], [])


def test_one_that_cannot_be_used_again_is_ended_where_it_is_given_back_and_where_it_idles():
    async def work(pool, lines):
        async with pool.connection() as first:
            first.reusable = False
        after_use = lines.closed
        async with pool.connection() as second:
            pass
        second.reusable = False  # the receiver has closed it meanwhile
        async with pool.connection() as third:
            return after_use, lines.closed, third.name

    assert run(work) == ([0], [0, 1], 2)


def test_a_fresh_connection_ends_all_that_were_idle():
    async def work(pool, lines):
        async with pool.connection(), pool.connection():
            pass
        async with pool.connection(fresh=True) as fresh:
            return fresh.name, lines.closed

    assert run(work) == (2, [0, 1])


def test_a_request_that_fails_gives_its_connection_back():
    async def work(pool, lines):
        with pytest.raises(SendError):
            async with pool.connection():
                raise SendError("no whole response")
        async with pool.connection() as again:
            return again.name, lines.closed

    assert run(work) == (0, [])


def test_the_bytes_of_connections_that_ended_count_with_those_that_idle_and_work():
    async def work(pool, lines):
        for _ in range(2):
            async with pool.connection() as ended:
                ended.reusable = False
        async with pool.connection():
            pass
        idle = pool.progress()
        async with pool.connection(), pool.connection():
            return idle, pool.progress()

    idle, busy = run(work)
    assert idle == Progress(300, 7, 0.1)
    assert busy == Progress(400, 14, 0.1)


def test_a_pool_that_has_opened_nothing_knows_no_round_trip():
    async def work(pool, lines):
        return pool.progress()

    assert run(work) == Progress(0, 0, None)


def test_with_a_spare_the_next_request_finds_one_open():
    async def work(pool, lines):
        made = []
        async with pool.connection():
            made.append(len(lines.made))
            for _ in range(3):
                await asyncio.sleep(0)
            made.append(len(lines.made))  # one beside it,
            async with pool.connection() as second:
                made.append(second.name)
                for _ in range(3):
                    await asyncio.sleep(0)
                made.append(len(lines.made))  # and one more when that is taken
            async with pool.connection():
                await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        return [*made, len(lines.made)]

    assert run(work, spare=True) == [1, 2, 1, 3, 3]


def test_only_one_spare_is_opened_at_a_time():
    async def work(pool, lines):
        async with pool.connection():
            async with pool.connection():
                pass
            for _ in range(3):
                await asyncio.sleep(0)
        return len(lines.made)

    assert run(work, spare=True) == 3


def test_a_spare_that_cannot_be_opened_is_no_failure_and_a_request_is():
    async def work(pool, lines):
        async with pool.connection() as first:
            lines.answers = False
            for _ in range(3):
                await asyncio.sleep(0)
            assert pool._opening.exception() is None
            first.reusable = False
        with pytest.raises(SendError, match="cannot connect"):
            async with pool.connection():
                pass
        return len(lines.made)

    assert run(work, spare=True) == 1


def test_the_end_ends_those_that_idle_and_those_in_use():
    async def work(pool, lines):
        async with pool.connection(), pool.connection():
            async with pool.connection():
                pass
            await pool.close()
            return lines.closed

    assert run(work) == [0, 1, 2]


@pytest.mark.parametrize("opens", [True, False])
def test_the_end_waits_a_little_for_a_connection_that_is_being_opened(monkeypatch, opens):
    monkeypatch.setattr(module, "OPENING_SECONDS", 0.2 if opens else 0.02)
    made, cancelled = [Line(0)], []

    async def slow():
        if made[0] not in given:
            given.append(made[0])
            return made[0]
        try:
            await asyncio.sleep(0.05 if opens else 20)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise
        made.append(Line(1))
        return made[1]

    async def go():
        pool = Pool(slow, spare=True)
        async with pool.connection():
            await asyncio.sleep(0)
        await pool.close()

    given = []
    asyncio.run(go())
    assert [line.closed for line in made] == ([1, 1] if opens else [1])
    assert cancelled == ([] if opens else [1])
