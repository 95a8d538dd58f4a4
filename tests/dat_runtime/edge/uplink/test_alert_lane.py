"""The alert lane over a sender that the test answers for."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from dat_runtime.edge.uplink import alert_lane
from dat_runtime.edge.uplink.alert_lane import AlertLane
from dat_runtime.edge.uplink.lane import Health, Way
from dat_runtime.edge.uplink.sender import Answer, BusyError, Progress, nothing
from tests.dat_runtime.edge.uplink.test_outbox import outbox, pending
from tests.dat_runtime.waiting import until_in_loop


class HeldSender:
    """Requests wait until the test lets them go; one that fails does so at once."""

    def __init__(self):
        self.batches = []
        self.statuses = 0
        self.errors = []
        self.go = asyncio.Event()

    async def send_alerts(self, alerts, written=nothing):
        self.batches.append([alert.id for alert in alerts])
        if self.errors:
            raise self.errors.pop(0)
        await self.go.wait()
        return [Answer(True)] * len(alerts)

    def alert_bytes(self, alerts):
        return 180 + sum(len(alert.json) for alert in alerts)

    async def send_status(self, status):
        self.statuses += 1

    def progress(self):
        return Progress(0, 0, None)


@asynccontextmanager
async def running(count, *, resent=0, metered=False):
    """A lane over a path of 100 kB/s, with so many alerts of 700 bytes waiting."""
    box, _ = outbox()
    for i in range(count):
        box.add(pending(f"e{i}", priority=1 - i / 1_000, roi=None), "c1", 0)
    sender = HeldSender()
    way = Way(sender, box.queue.bandwidth, metered, box, Health())
    way.meter.losses.read(Progress(0, 0, None, packets=400, resent=resent))
    lane = asyncio.ensure_future(AlertLane(way, lambda: b"{}").run())
    try:
        yield sender, box
    finally:
        lane.cancel()
        await asyncio.gather(lane, return_exceptions=True)


def test_bytes_on_their_way_are_bounded_from_the_first_request_on():
    async def go():
        async with running(200) as (sender, box):
            await until_in_loop(lambda: sender.batches)
            await asyncio.sleep(0.1)
            under_way = sum(len(batch) for batch in sender.batches)
            assert 700 * under_way <= 100_000 * alert_lane.QUEUE_SECONDS
            assert sender.batches[0][0] == "e0"
            sender.go.set()
            await until_in_loop(lambda: not box.alerts)

    asyncio.run(go())


def test_a_node_that_always_has_an_alert_under_way_says_how_it_is_all_the_same(monkeypatch):
    monkeypatch.setattr(alert_lane, "OVERDUE", 0.2)

    async def go():
        async with running(1) as (sender, _):
            await until_in_loop(lambda: sender.batches)
            assert sender.statuses == 0  # alerts first
            await until_in_loop(lambda: sender.statuses)

    asyncio.run(go())


def test_after_a_failure_one_request_asks_whether_the_way_works_again():
    async def go():
        async with running(200) as (sender, box):
            sender.errors = [BusyError("429")]
            await until_in_loop(lambda: len(sender.batches) == 2)
            await asyncio.sleep(0.05)
            assert len(sender.batches) == 2
            sender.go.set()
            await until_in_loop(lambda: not box.alerts)
            assert sorted({id for batch in sender.batches for id in batch}) == sorted(
                f"e{i}" for i in range(200)
            )

    asyncio.run(go())


def test_where_packets_get_lost_an_alert_goes_twice_and_the_first_answer_counts():
    async def go():
        async with running(1, resent=8) as (sender, box):
            await until_in_loop(lambda: len(sender.batches) == 2)
            sender.go.set()
            await until_in_loop(lambda: not box.alerts)
            assert sender.batches == [["e0"], ["e0"]]

    asyncio.run(go())


def test_an_alert_that_is_answered_at_once_goes_once_though_packets_get_lost():
    async def go():
        async with running(1, resent=8) as (sender, box):
            sender.go.set()
            await until_in_loop(lambda: not box.alerts)
            await asyncio.sleep(0.1)
            assert sender.batches == [["e0"]]

    asyncio.run(go())


@pytest.mark.parametrize("round_trip", [0.02, 2.0])
def test_on_a_long_way_a_copy_does_not_wait_for_the_answer(round_trip):
    """880 bytes take 9 ms at 100 kB/s; the answer is due after that and a round trip."""

    async def go():
        async with running(1, resent=8) as (sender, box):
            box.queue.bandwidth.acknowledged(0.0, 0, round_trip)
            await until_in_loop(lambda: sender.batches)
            began = asyncio.get_running_loop().time()
            await until_in_loop(lambda: len(sender.batches) == 2)
            took = asyncio.get_running_loop().time() - began
            assert (round_trip if round_trip < 0.025 else 0.0) < took < max(0.4, 0.8 * round_trip)

    asyncio.run(go())


def test_a_copy_waits_until_another_alert_has_gone():
    async def go():
        async with running(1, resent=8) as (sender, box):
            await until_in_loop(lambda: sender.batches)
            box.add(pending("e1", priority=0.5, roi=None), "c1", 0)
            await until_in_loop(lambda: len(sender.batches) == 4)
            assert [id for batch in sender.batches for id in batch] == ["e0", "e1", "e0", "e1"]

    asyncio.run(go())


@pytest.mark.parametrize("answered", [True, False])
def test_a_lane_that_ends_while_a_copy_is_due_keeps_what_was_not_answered(answered):
    async def go():
        async with running(1, resent=8) as (sender, box):
            await until_in_loop(lambda: sender.batches)
            if answered:
                sender.go.set()
                await until_in_loop(lambda: not box.alerts)
        assert len(box.queue) == (0 if answered else 1)

    asyncio.run(go())


def test_of_two_copies_one_may_fail():
    async def go():
        async with running(1, resent=8) as (sender, box):
            sender.errors = [BusyError("503")]
            await until_in_loop(lambda: len(sender.batches) == 2)
            sender.go.set()
            await until_in_loop(lambda: not box.alerts)
            await asyncio.sleep(0.05)
            assert sender.batches == [["e0"], ["e0"]]

    asyncio.run(go())


def test_an_alert_of_which_both_copies_failed_waits_again():
    async def go():
        async with running(1, resent=8) as (sender, box):
            sender.errors = [BusyError("503"), BusyError("503")]
            sender.go.set()
            await until_in_loop(lambda: not box.alerts)
            assert sender.batches == [["e0"]] * 3  # after a failure it goes once

    asyncio.run(go())


@pytest.mark.parametrize(
    ("count", "resent", "metered"),
    [(1, 2, False), (1, 1, False), (1, 8, True)],
    ids=["few", "one", "metered"],
)
def test_an_alert_goes_once_where_a_copy_is_not_worth_its_bytes(count, resent, metered):
    async def go():
        async with running(count, resent=resent, metered=metered) as (sender, box):
            sender.go.set()
            await until_in_loop(lambda: not box.alerts)
            assert sender.batches == [["e0"]]

    asyncio.run(go())


def test_copies_count_among_the_bytes_on_their_way():
    async def go():
        async with running(200, resent=8) as (sender, _):
            await until_in_loop(lambda: sender.batches)
            await asyncio.sleep(0.1)
            under_way = sum(len(batch) for batch in sender.batches)
            assert 700 * under_way <= 100_000 * alert_lane.QUEUE_SECONDS

    asyncio.run(go())
