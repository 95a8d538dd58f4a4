"""The visual lane over a sender whose link the test makes up."""

import asyncio

import pytest

from dat_runtime.edge.uplink.lane import Health, Way
from dat_runtime.edge.uplink.sender import Progress, SendError
from dat_runtime.edge.uplink.visual_lane import VisualLane
from tests.dat_runtime.edge.uplink.events import fill
from tests.dat_runtime.edge.uplink.test_outbox import outbox, pending


class MadeUpSender:
    """A link of so many bytes per second; it keeps which bytes went when."""

    def __init__(self, rate):
        self._rate = rate
        self._written = 0
        self._arrived, self._at = 0.0, None
        self.pieces = []
        self.parts = []
        self.fails = 0
        self.most_in_flight = 0
        self.looks = 0

    async def send_visual(self, visual, pieces):
        self.parts.append(visual.id)
        if self.fails:
            self.fails -= 1
            raise SendError("the link is gone")
        offset = 0
        async for piece in pieces(0):
            assert piece == fill(visual.id, visual.size)[offset : offset + len(piece)]
            offset += len(piece)
            self._written += len(piece)
            self.pieces.append((visual.id, len(piece)))
        return offset

    def progress(self):
        self.looks += 1
        now = asyncio.get_running_loop().time()
        if self._at is not None:
            self._arrived = min(self._written, self._arrived + (now - self._at) * self._rate)
        self._at = now
        in_flight = self._written - int(self._arrived)
        self.most_in_flight = max(self.most_in_flight, in_flight)
        return Progress(int(self._arrived), in_flight, 0.001)


def run(sender, work, *, metered=False, copy_due=0.0):
    box, spool = outbox()
    spool.visual = lambda id, kind: fill(id, sizes[id])
    sizes = {}

    def add(id, size, priority=0.5):
        sizes[id] = size
        now = asyncio.get_running_loop().time()
        box.add(pending(id, priority, size, now, json_sent=True), "c1", 0)

    async def go():
        way = Way(sender, box.queue.bandwidth, metered, box, Health())
        way.copies_due = int(copy_due > 0)
        lane = asyncio.ensure_future(VisualLane(way).run())
        try:
            await work(add)
            await asyncio.sleep(copy_due)
            assert not (copy_due and sender.pieces)
            way.copies_due = 0
            for _ in range(1_000):
                if not box.visuals or metered:
                    break
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
        finally:
            lane.cancel()
            await asyncio.gather(lane, return_exceptions=True)

    asyncio.run(go())
    return box, spool


def test_while_an_alert_may_have_to_go_again_no_piece_is_put_before_it():
    async def work(add):
        add("a", 5_000)

    sender = MadeUpSender(100_000)
    run(sender, work, copy_due=0.1)
    assert sum(size for _, size in sender.pieces) == 5_000


def test_a_better_visual_goes_first_and_the_other_one_goes_on_in_the_same_request():
    sender = MadeUpSender(100_000)

    async def work(add):
        add("big", 60_000, 0.3)
        await asyncio.sleep(0.2)
        add("small", 5_000, 0.9)

    box, spool = run(sender, work)
    names = [name for name, _ in sender.pieces]
    first, last = names.index("small"), len(names) - 1 - names[::-1].index("small")
    assert set(names[first : last + 1]) == {"small"}  # in one go,
    assert "big" in names[:first]  # between two pieces of the big one
    assert "big" in names[last:]
    assert sender.parts == ["big", "small"]
    assert sorted(id for id, _, _ in spool.acknowledged) == ["big", "small"]
    assert not box.visuals


@pytest.mark.parametrize("rate", [20_000, 200_000])
def test_little_is_in_flight(rate):
    sender = MadeUpSender(rate)

    async def work(add):
        add("a", rate // 2)

    run(sender, work)
    # After the first second's learning: what the path believed at first was 100 kB/s.
    assert sender.most_in_flight < max(6_000, 0.1 * rate)


def test_visuals_of_equal_worth_all_get_through():
    sender = MadeUpSender(1e6)

    async def work(add):
        for i in range(60):
            add(f"e{i}", 200)

    box, _ = run(sender, work)
    assert not box.visuals
    assert len(sender.parts) == 60  # none was begun in vain


def test_a_failure_loses_no_visual():
    sender = MadeUpSender(1e6)
    sender.fails = 2

    async def work(add):
        add("a", 3_000)
        add("b", 3_000)

    box, spool = run(sender, work)
    assert not box.visuals
    assert sorted(id for id, _, _ in spool.acknowledged) == ["a", "b"]


def test_on_a_metered_way_no_visual_begins():
    sender = MadeUpSender(1e6)

    async def work(add):
        add("a", 3_000)
        await asyncio.sleep(0.1)

    box, _ = run(sender, work, metered=True)
    assert box.visuals == {"a"}
    assert sender.parts == []


def test_while_an_alert_waits_for_the_link_to_come_back_nothing_is_polled():
    sender = MadeUpSender(1e6)

    async def go():
        box, _ = outbox()
        box.add(pending("a", json_sent=True), "c1", 0)
        box.add(pending("b"), "c1", 0)
        way = Way(sender, box.queue.bandwidth, False, box, Health())
        lane = asyncio.ensure_future(VisualLane(way).run())
        await asyncio.sleep(0.3)
        lane.cancel()
        await asyncio.gather(lane, return_exceptions=True)

    asyncio.run(go())
    assert sender.looks < 10
    assert sender.parts == []
