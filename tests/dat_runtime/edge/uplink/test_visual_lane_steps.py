"""The visual lane's own numbers, over a path and a clock that the test sets."""

import asyncio

import pytest

from dat_runtime.edge.spool import SpoolError
from dat_runtime.edge.uplink import visual_lane
from dat_runtime.edge.uplink.lane import Health, Way
from dat_runtime.edge.uplink.sender import (
    EarlyError,
    OutgoingVisual,
    Progress,
    RefusedError,
    SendError,
)
from dat_runtime.edge.uplink.visual_lane import VisualLane, _Upload
from dat_runtime.planning.live import Chunk
from tests.dat_runtime.edge.uplink.events import fill
from tests.dat_runtime.edge.uplink.test_outbox import outbox, pending
from tests.dat_runtime.waiting import until_in_loop


class Road:
    """A path of 100 kB/s with a short round trip and much room."""

    delay = 0.0

    def __init__(self):
        self.rate, self.round_trip, self.in_flight, self.space = 100_000.0, 0.001, 0, 9_999
        self.idles = 0

    def lost(self, left=0):
        """There is nothing to lose."""

    def sent(self, at, size):
        """Its numbers are set by the test."""

    def acknowledged(self, *_, **__):
        """Its numbers are set by the test."""

    def room(self, now):
        return self.space

    def idle(self):
        self.idles += 1


class Held:
    """A sender that asks for the visual from `at` on and ends as the test wants."""

    def __init__(self):
        self.at, self.error, self.arrived, self.sent = 0, None, None, []

    def progress(self):
        return Progress(0, 0, 0.001)

    async def send_visual(self, visual, pieces):
        content = b"".join([piece async for piece in pieces(self.at)])
        self.sent.append((visual.id, visual.kind, content))
        if self.error is not None:
            raise self.error
        return self.at + len(content) if self.arrived is None else self.arrived


def lane_with(*ids, size=5_000, metered=False):
    """A lane whose outbox has these visuals, in this order; its sender, outbox, spool, path."""
    box, spool = outbox()
    spool.roi_bytes = size
    for i, id in enumerate(ids):
        box.add(pending(id, 10.0**-i, size, 0.0, json_sent=True), "c1", 0)
    sender, road = Held(), Road()
    way = Way(sender, road, metered, box, Health())
    box.queue.bandwidth = road
    return VisualLane(way), sender, box, spool, road


def upload(name="a", size=10, first=0, now=100.0):
    wrote = []
    made = _Upload(OutgoingVisual(name, "roi", size), first, now, lambda: wrote.append(1))
    made.wrote = wrote
    return made


@pytest.mark.parametrize(
    ("rate", "space", "room"),
    [(100_000.0, 9_999, 1_200), (100_000.0, 500, 500), (1_000.0, 9_999, 300), (1_000.0, 299, 299)],
)
def test_a_piece_takes_little_time_of_the_link_and_is_never_tiny(rate, space, room):
    lane, _, _, _, road = lane_with()
    road.rate, road.space = rate, space
    assert lane._room(5.0) == room


@pytest.mark.parametrize(
    ("in_flight", "space", "room"),
    [
        (0, 9_999, 1_200),  # a packet has to be under way before anything is known
        (1_400, 9_999, 1_200),
        (1_500, 9_999, 1_100),  # 2,600 bytes take the round trip and 25 ms
        (2_300, 9_999, 300),
        (2_301, 9_999, 0),
        (2_500, 100, 100),
        (2_501, 100, 0),
    ],
)
def test_on_a_short_way_little_is_in_flight(in_flight, space, room):
    lane, _, _, _, road = lane_with()
    road.in_flight, road.space = in_flight, space
    assert lane._room(5.0) == room


def test_on_a_long_way_the_path_alone_says_how_much():
    lane, _, _, _, road = lane_with()
    road.round_trip, road.in_flight = 0.025, 100_000
    lane._way.copies_due = 1
    assert lane._room(5.0) == 1_200
    assert road.idles == 0
    road.round_trip = 0.0249
    assert lane._room(5.0) == 0  # an alert's copy would wait behind the piece
    assert road.idles == 1


@pytest.mark.parametrize(
    ("rate", "tick"), [(1e6, 0.002), (20_000.0, 0.004375), (1_000.0, 0.01), (43_750.0, 0.002)]
)
def test_the_path_is_looked_at_before_the_link_runs_dry(rate, tick):
    lane, _, _, _, road = lane_with()
    road.rate = rate
    assert lane._tick(5.0, True) == pytest.approx(tick)
    assert lane._tick(5.0, False) is None
    road.in_flight = 1
    assert lane._tick(5.0, False) == pytest.approx(tick)
    road.in_flight, lane._way.alerts_under_way = 0, 1
    assert lane._tick(5.0, False) == pytest.approx(tick)
    lane._way.alerts_under_way, lane._uploads = 0, {("a", False): upload()}
    assert lane._tick(5.0, False) == 1.0
    lane._pauses.until = 7.5
    assert lane._tick(5.0, True) == 2.5
    assert lane._tick(7.5, False) == 1.0


def test_parts_end_that_took_long_gave_way_for_long_or_are_of_an_older_revision():
    async def go():
        lane, _, box, _, _ = lane_with("old", "quiet", "writes", "stale", "well")
        box.add(pending("stale", json_sent=True), "c1", 1)
        now = 200.0
        made = {
            "old": upload("old", now=now - 20.001),
            "quiet": upload("quiet", now=now - 4.001),
            "writes": upload("writes", now=now - 4.001),
            "stale": upload("stale", now=now),
            "well": upload("well", now=now - 20.0),
        }
        made["well"].given_at = now - 4.0
        for name in ("old", "quiet", "stale", "well"):
            made[name]._asked = asyncio.get_running_loop().create_future()
        lane._uploads = {(name, False): one for name, one in made.items()}
        lane._end_parts(now)
        return [name for name, one in made.items() if one.ending]

    assert asyncio.run(go()) == ["old", "quiet", "stale"]


def test_an_upload_gives_its_pieces_as_they_are_asked_for():
    async def go():
        one = upload(size=10, first=3)
        one.content, one.offset = b"0123456789", 3
        assert not one.asks
        asking = asyncio.ensure_future(anext(one))
        await asyncio.sleep(0)
        assert (one.asks, one.wrote, one.is_unwritten) == (True, [1], False)
        one.give(4, 101.5)
        assert (one.asks, one.is_unwritten, one.offset, one.given_at) == (False, True, 7, 101.5)
        assert await asking == b"3456"
        asking = asyncio.ensure_future(anext(one))
        await asyncio.sleep(0)
        assert not one.is_unwritten
        one.give(9, 102.0)
        assert await asking == b"789"
        assert (one.offset, one.began) == (10, 100.0)
        with pytest.raises(StopAsyncIteration):
            await anext(one)
        assert len(one.wrote) == 2

    asyncio.run(go())


def test_a_part_that_is_ended_gives_no_more():
    async def go():
        one = upload()
        one.content, one.offset = b"0123456789", 0
        asking = asyncio.ensure_future(anext(one))
        await asyncio.sleep(0)
        one.end()
        assert not one.asks
        with pytest.raises(StopAsyncIteration):
            await asking
        with pytest.raises(StopAsyncIteration):
            await anext(one)
        later = upload()
        later.end()  # while nothing was asked for
        with pytest.raises(StopAsyncIteration):
            await anext(later)

    asyncio.run(go())


def test_of_those_that_gave_way_the_one_that_began_first_makes_place():
    async def go():
        lane, _, _, _, _ = lane_with()
        made = [upload(name, now=now) for name, now in [("a", 3.0), ("b", 1.0), ("c", 2.0)]]
        lane._uploads = {(one.due.id, False): one for one in made}
        lane._end_one()
        assert not any(one.ending for one in made)  # all are written just now
        for one in (made[0], made[2]):
            one._asked = asyncio.get_running_loop().create_future()
        lane._end_one()
        assert [one.ending for one in made] == [False, False, True]
        lane._end_one()  # its place is not free yet
        assert [one.ending for one in made] == [False, False, True]

    asyncio.run(go())


def test_so_many_uploads_are_under_way_and_one_more_ends_one():
    async def go():
        lane, _, box, _, _ = lane_with("more")
        made = [upload(f"u{n}", now=float(n)) for n in range(15)]
        for one in made:
            one._asked = asyncio.get_running_loop().create_future()
        lane._uploads = {(one.due.id, False): one for one in made}
        chunk = box.queue.next_visual(0.0)
        lane._start(chunk, 50.0)
        assert len(lane._uploads) == visual_lane.MOST_UPLOADS == 16
        assert len(lane._running) == 1
        started = lane._uploads["more", False]
        assert (started.began, started.first, started.due.size) == (50.0, 0, 5_000)
        lane._start(chunk, 51.0)
        assert len(lane._running) == 1
        assert made[0].ending
        await lane._running.end()

    asyncio.run(go())


def test_what_is_given_and_when():
    async def go():
        lane, sender, box, _, road = lane_with("a", "b", size=3_000)
        assert lane._give(5.0)  # it begins
        assert (road.idles, len(lane._uploads)) == (1, 1)
        await until_in_loop(lambda: lane._uploads["a", False].asks)
        one = lane._uploads["a", False]
        assert lane._give(6.0)
        assert (one.offset, one.given_at, one.is_unwritten) == (1_200, 6.0, True)
        assert lane._give(7.0)  # not before it is written
        assert one.offset == 1_200
        await until_in_loop(lambda: one.asks)
        road.space = 0
        assert lane._give(8.0)
        assert one.offset == 1_200
        road.space = 1
        assert lane._give(8.0)
        assert one.offset == 1_201
        await until_in_loop(lambda: one.asks)
        road.space = 9_999
        box.add(pending("alert", roi=None), "c1", 0)
        assert not lane._give(9.0)  # it goes first
        box.take_alert()
        assert lane._give(9.0)
        assert one.offset == 2_401
        await until_in_loop(lambda: one.asks)
        lane._way.metered = True
        assert not lane._give(10.0)
        lane._way.metered = False
        assert lane._give(11.0)
        assert one.offset == 3_000
        await until_in_loop(lambda: sender.sent)
        assert sender.sent == [("a", "roi", fill("a", 3_000))]
        await lane._running.end()

    asyncio.run(go())


def test_where_nothing_waits_the_path_learns_that():
    async def go():
        lane, _, _, _, road = lane_with()
        assert not lane._give(5.0)
        assert road.idles == 1

    asyncio.run(go())


def test_a_visual_and_the_question_of_its_event_are_two_units():
    assert visual_lane._unit("a", "code") == ("a", True)
    assert {visual_lane._unit("a", kind) for kind in ("roi", "box")} == {("a", False)}


def sent(arrange, size=5_000):
    """One visual over a lane, as `arrange` has it; the lane and what the spool heard."""

    async def go():
        lane, sender, box, spool, _ = lane_with("a", size=size)
        chunk = box.queue.next_visual(0.0)
        one = _Upload(box.due_visual(chunk), chunk.offset, 0.0, lambda: None)
        lane._uploads["a", False] = one
        box.queue.sent(Chunk("a", "roi", 0, size, last=True))
        arrange(sender, spool, one)
        await lane._send(one)
        assert lane._uploads == {}
        return lane, box, spool

    return asyncio.run(go())


def giving(to):
    """Gives what is asked for, as far as `to`."""

    def arrange(sender, spool, one):
        async def give(visual, pieces):
            begun = pieces(sender.at)
            assert begun is one
            one.offset = to
            return sender.arrived

        sender.send_visual = give

    return arrange


def test_a_visual_that_is_whole_is_acknowledged():
    lane, box, spool = sent(lambda sender, *_: setattr(sender, "at", 5_000))
    assert spool.acknowledged == [("a", "roi", 0)]
    assert not box.visuals
    assert lane._way.health.connected


@pytest.mark.parametrize(("arrived", "problem"), [(0, True), (1, False), (1_200, False)])
def test_a_receiver_that_keeps_nothing_is_not_asked_at_once_again(arrived, problem):
    def arrange(sender, spool, one):
        sender.arrived = arrived
        giving(1_200)(sender, spool, one)

    lane, box, spool = sent(arrange)
    assert lane._way.health.problem == ("the receiver keeps nothing of a visual" if problem else "")
    assert box.queue.next_visual(0.0).offset == arrived
    assert spool.acknowledged == []


def test_a_part_that_gave_nothing_is_no_failure():
    def arrange(sender, spool, one):
        sender.arrived = 0
        giving(0)(sender, spool, one)

    assert sent(arrange)[0]._way.health.connected


@pytest.mark.parametrize(
    ("error", "refused", "waits"),
    [
        (SendError("the link is gone"), [], True),
        (RefusedError("415: no JPEG"), [("a", "roi", "415: no JPEG", 0)], False),
        (EarlyError("404"), [], True),
    ],
)
def test_how_a_part_that_fails_ends(error, refused, waits):
    def arrange(sender, spool, one):
        async def fail(visual, pieces):
            raise error

        sender.send_visual = fail

    lane, box, spool = sent(arrange)
    assert spool.refused == refused
    chunk = box.queue.next_visual(0.0)
    assert (chunk is not None) == waits
    assert lane._way.health.problem == (str(error) if type(error) is SendError else "")
    if type(error) is SendError:
        assert box.due_visual(chunk).begun  # how much is there has to be asked


def test_a_visual_that_the_spool_cannot_read_or_has_no_more():
    def broken(sender, spool, one):
        def fail(id, kind):
            raise SpoolError("cannot be read")

        spool.visual = fail

    lane, box, _ = sent(broken)
    assert lane._way.health.problem == "cannot be read"
    assert box.queue.next_visual(0.0) is None  # it rests
    assert len(box.visuals) == 1
    lane, box, _ = sent(lambda sender, spool, one: setattr(spool, "roi_bytes", 6))
    assert box.queue.next_visual(0.0) is None
    assert lane._way.health.problem == ""


def test_visuals_do_not_wait_behind_one_that_cannot_be_read_and_it_comes_again(monkeypatch):
    monkeypatch.setattr(visual_lane, "UNREADABLE_SECONDS", 0.3)

    async def go():
        lane, sender, _, spool, _ = lane_with("a", "b", "c")
        read = spool.visual
        bad = ["a"]

        def broken(id, kind):
            if id in bad:  # the best one
                raise SpoolError("disk I/O error")
            return read(id, kind)

        spool.visual = broken
        ran = asyncio.ensure_future(lane.run())
        await until_in_loop(lambda: len(sender.sent) == 2)
        assert [id for id, _, _ in sender.sent] == ["b", "c"]
        bad.clear()
        await until_in_loop(lambda: len(sender.sent) == 3)
        assert sender.sent[2][0] == "a"
        ran.cancel()
        await asyncio.gather(ran, return_exceptions=True)

    asyncio.run(go())


def test_where_the_receiver_stands_elsewhere_the_visual_goes_on_from_there():
    async def go():
        lane, _, box, _, _ = lane_with("a", "b")
        one = _Upload(OutgoingVisual("a", "roi", 5_000), 0, 0.0, lambda: None)
        added = []
        add = box.queue.add
        box.queue.add = lambda *about, **more: (added.append(about), add(*about, **more))
        assert lane._begins(one, 0) is one
        assert (one.offset, added) == (0, [])  # it keeps its place among its equals
        lane._begins(one, 700)
        assert (one.first, one.offset) == (700, 700)
        assert added[0][2] == 700

    asyncio.run(go())


def test_a_lane_that_ends_is_woken_no_more_and_a_defect_ends_it():
    async def go():
        lane, sender, box, _, _ = lane_with("a")

        async def defect(visual, pieces):
            raise KeyError("a defect")

        sender.send_visual = defect
        with pytest.raises(KeyError):
            await asyncio.wait_for(lane.run(), 10)
        assert box._wakes == set()

    asyncio.run(go())


def test_a_lane_brings_what_waits_and_looks_at_the_path_by_its_clock():
    async def go():
        lane, sender, box, spool, _ = lane_with("a", "b", size=2_000)
        reads = []
        lane._way.meter.read = reads.append
        ran = asyncio.ensure_future(lane.run())
        await until_in_loop(lambda: len(spool.acknowledged) == 2 or ran.done())
        ran.cancel()
        await asyncio.gather(ran, return_exceptions=True)
        now = asyncio.get_running_loop().time()
        assert all(now - 60 < read <= now for read in reads)
        assert sorted(id for id, _, _ in sender.sent) == ["a", "b"]
        assert not box.visuals

    asyncio.run(go())


def test_an_upload_that_knows_nothing_yet_gives_nothing():
    one = upload(size=10, first=4)
    assert (one.content, one.offset, one.first, one.is_unwritten) == (b"", None, 4, False)
    assert (one.ending, one.asks, one.began, one.given_at) == (False, False, 100.0, 100.0)
