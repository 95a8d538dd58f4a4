"""The alert lane's own numbers, over a path and a clock that the test sets."""

import asyncio
from dataclasses import replace

import pytest

from dat_runtime.edge.spool import SpoolError
from dat_runtime.edge.uplink import alert_lane
from dat_runtime.edge.uplink.alert_lane import AlertLane, _Sending
from dat_runtime.edge.uplink.lane import Health, Way
from dat_runtime.edge.uplink.sender import Answer, BusyError, Progress, SendError
from tests.dat_runtime.edge.uplink.test_alert_lane import HeldSender, running
from tests.dat_runtime.edge.uplink.test_outbox import outbox, pending
from tests.dat_runtime.waiting import until_in_loop


class Road:
    """A path of 100 kB/s with nothing on it."""

    rate, round_trip, ahead = 100_000.0, 0.0, 0.0

    def lost(self, left=0):
        """There is nothing to lose."""

    def wait(self, now):
        return self.ahead


def lane_with(*sizes, status=lambda: b"{}", resent=0, metered=False):
    """A lane whose outbox has alerts e0, e1 ... of these sizes; its sender, outbox, spool, path."""
    box, spool = outbox()
    for i, size in enumerate(sizes):
        event = pending(f"e{i}", priority=10.0 ** (-6 * i), roi=None)  # in this order
        box.add(replace(event, json_bytes=size), "c1", 0)
    sender, road = HeldSender(), Road()
    way = Way(sender, road, metered, box, Health())
    way.meter.losses.read(Progress(0, 0, None, packets=400, resent=resent))
    return AlertLane(way, status), sender, box, spool, road


def ids(batch):
    return [due.id for due in batch]


@pytest.mark.parametrize(
    ("sizes", "unanswered", "taken"),
    [
        ([2_000, 3_000, 1], 0, 2),  # 5,000 bytes: 50 ms
        ([2_000, 3_001, 1], 0, 1),
        ([90_000, 1], 0, 1),  # while nothing is under way it goes, however large it is
        ([4_999], 1, 1),
        ([5_000], 1, 0),
        ([1], 5_000, 0),
        ([], 0, 0),
    ],
)
def test_a_batch_fills_what_an_alert_may_wait_behind(sizes, unanswered, taken):
    lane, _, box, _, _ = lane_with(*sizes)
    lane._unanswered = unanswered
    assert ids(lane._next_batch()) == [f"e{i}" for i in range(taken)]
    assert len(box.queue) == len(sizes) - taken


def test_a_longer_way_and_a_faster_one_carry_more_at_once():
    lane, _, _, _, road = lane_with(*[1] * 103)
    road.round_trip = 0.3
    assert lane._room == 35_000
    road.rate = 1e9
    lane._unanswered = 7
    assert lane._room == 350_000_000 - 7
    assert len(lane._next_batch()) == 100
    assert len(lane._next_batch()) == 3


@pytest.mark.parametrize(
    ("round_trip", "pause"), [(0.0, 0.314), (0.02, 0.334), (0.0249, 0.3389), (0.025, 0.31)]
)
def test_a_copy_waits_for_what_is_ahead_its_own_bytes_and_a_short_ways_answer(round_trip, pause):
    async def go():
        lane, _, _, _, road = lane_with()
        road.ahead, road.round_trip = 0.3, round_trip
        sender = lane._way.sender
        sender.alert_bytes = len  # as the sender says: 10 ms at 100 kB/s
        return lane._copy_pause(range(1_000))

    assert asyncio.run(go()) == pytest.approx(pause)


def test_a_copy_goes_where_packets_get_lost_and_is_worth_its_bytes():
    async def go():
        lane, _, _, _, _ = lane_with(resent=3)
        assert lane._affords_copy()
        lane._pauses.failures = 1
        assert not lane._affords_copy()
        lane._pauses.failures = 0
        for _ in range(15):
            lane._sending.start(asyncio.sleep(20))
        assert lane._affords_copy()
        lane._sending.start(asyncio.sleep(20))
        assert not lane._affords_copy()
        await lane._sending.end()
        assert not lane_with(resent=2)[0]._affords_copy()
        assert not lane_with(resent=3, metered=True)[0]._affords_copy()

    asyncio.run(go())


def test_a_status_waits_for_alerts_but_not_for_ever():
    async def go():
        lane, sender, _, _, _ = lane_with()
        lane._status_at = 100.0
        lane._start_status(99.9)
        assert len(lane._sending) == 0
        lane._start_status(100.0)
        assert len(lane._sending) == 1
        assert lane._status_at == 110.0
        assert lane._status_due == 115.0  # something is under way
        lane._start_status(114.9)
        assert lane._status_at == 110.0
        await asyncio.sleep(0.01)
        assert (sender.statuses, lane._status_due) == (1, 110.0)
        assert lane._way.health.connected

    asyncio.run(go())


def test_a_status_that_fails_is_a_failure_of_the_way_and_goes_again_after_its_pause():
    async def go():
        lane, sender, _, _, _ = lane_with(status=lambda: b'{"a":1}')

        async def fail(status):
            said.append(status)
            raise BusyError("503", retry_after=7.0)

        said = []
        sender.send_status = fail
        lane._status_at = 0.0
        now = asyncio.get_running_loop().time()
        await lane._send_status()
        assert said == [b'{"a":1}']
        assert now <= lane._status_at <= now + 5
        assert now + 7 <= lane._pauses.until
        assert lane._way.health.problem == "503"

    asyncio.run(go())


def test_the_first_batch_holds_what_goes_at_once_and_no_more():
    async def go():
        async with running(200) as (sender, _):
            await until_in_loop(lambda: sender.batches)
            await asyncio.sleep(0.05)
            assert sender.batches == [[f"e{i}" for i in range(7)]]  # 4,900 bytes of 5,000

    asyncio.run(go())


def test_so_many_requests_are_under_way_at_once():
    async def go():
        lane, sender, _, _, road = lane_with(*[700] * 20)
        road.rate = 1e9
        lane._next_batch = lambda: [box.take_alert()] if len(box.queue) else []
        box = lane._way.outbox
        lane._start_alerts()
        await asyncio.sleep(0.05)
        assert len(sender.batches) == alert_lane.MOST_REQUESTS == 16
        assert lane._unanswered == 16 * 700
        lane._pauses.failures = 1
        lane._start_alerts()
        sender.go.set()
        await until_in_loop(lambda: not len(lane._sending))
        assert lane._unanswered == 0
        lane._pauses.failures = 1
        sender.go.clear()
        lane._start_alerts()
        await asyncio.sleep(0.01)
        assert len(sender.batches) == 17  # after a failure one finds out
        await lane._sending.end()
        assert len(box.queue) == 4  # what was not answered waits again

    asyncio.run(go())


def test_an_alert_that_the_spool_cannot_read_waits_and_one_that_it_has_not_is_left_out():
    async def go():
        lane, sender, box, spool, _ = lane_with(700, 700)
        sender.go.set()
        spool.alert = lambda id: None if id == "e0" else b'{"id":1}'
        sending = _Sending(lane._next_batch())
        lane._count(sending)
        assert lane._unanswered == 1_400
        await lane._send(sending)
        assert sender.batches == [["e1"]]
        assert (box.alerts, len(box.queue), lane._unanswered) == (set(), 0, 0)
        assert spool.acknowledged == [("e1", "json", 0)]

        lane, sender, box, spool, _ = lane_with(700)

        def broken(id):
            raise SpoolError("cannot be read")

        spool.alert = broken
        await lane._send(_Sending(lane._next_batch()))
        assert sender.batches == []
        assert len(box.queue) == 1
        assert lane._way.health.problem == "cannot be read"

    asyncio.run(go())


def test_alerts_do_not_wait_behind_one_that_cannot_be_read():
    async def go():
        lane, sender, box, spool, _ = lane_with(700, 700, 700)
        sender.go.set()

        def read(id):
            if id == "e0":  # the best one, in a bad block of the disk
                raise SpoolError("disk I/O error")
            return b'{"id":1}'

        spool.alert = read
        ran = asyncio.ensure_future(lane.run())
        await until_in_loop(lambda: len(spool.acknowledged) == 2)
        assert sender.batches == [["e1", "e2"]]
        await until_in_loop(lambda: lane._way.health.problem == "disk I/O error")
        assert box.alerts == {"e0"}
        ran.cancel()
        await asyncio.gather(ran, return_exceptions=True)
        assert (len(box.queue), lane._unanswered) == (1, 0)

    asyncio.run(go())


def test_what_none_of_a_batch_is_left_of_is_not_sent():
    async def go():
        lane, sender, _, spool, _ = lane_with(700, resent=8)
        spool.alert = lambda id: None
        await lane._send(_Sending(lane._next_batch()))
        assert sender.batches == []
        assert len(lane._sending) == 0

    asyncio.run(go())


def test_each_alert_of_a_batch_has_the_answer_at_its_place():
    async def go():
        lane, sender, _, spool, _ = lane_with(700, 700, 700)

        async def answer(alerts, written):
            written()
            return [Answer(True), Answer(False, "409: other content"), Answer(True)]

        sender.send_alerts = answer
        await lane._send(_Sending(lane._next_batch()))
        assert spool.acknowledged == [("e0", "json", 0), ("e2", "json", 0)]
        assert spool.refused == [("e1", "json", "409: other content", 0)]
        assert lane._way.health.connected

    asyncio.run(go())


def test_a_visual_may_follow_as_soon_as_its_alert_is_written():
    async def go():
        lane, sender, box, _, _ = lane_with()
        box.add(pending("v"), "c1", 0)
        held = asyncio.Event()

        async def write(alerts, written):
            written()
            await held.wait()
            return [Answer(True)]

        sender.send_alerts = write
        lane._start_alerts()
        await until_in_loop(lambda: box.queue.next_visual(0.0) is not None)
        assert box.alerts == {"v"}
        await lane._sending.end()

    asyncio.run(go())


def test_while_a_copy_is_due_pieces_of_visuals_know_of_it():
    async def go():
        lane, _, _, _, road = lane_with(700)
        road.ahead = 0.05
        sending = alert_lane._Sending(lane._next_batch())
        waiting = asyncio.ensure_future(lane._wait_before_copy(sending))
        await asyncio.sleep(0.01)
        assert lane._way.copies_due == 1
        await waiting
        assert lane._way.copies_due == 0
        # There is no room for it until what is under way was answered.
        lane._unanswered = 4_301
        waiting = asyncio.ensure_future(lane._wait_before_copy(sending))
        await asyncio.sleep(0.15)
        assert not waiting.done()
        lane._unanswered = 4_300
        await asyncio.wait_for(waiting, 5)

    asyncio.run(go())


def test_a_lane_tells_how_many_of_its_requests_are_under_way_and_raises_a_defect():
    async def go():
        lane, sender, box, _, _ = lane_with(700)
        ran = asyncio.ensure_future(lane.run())
        await until_in_loop(lambda: sender.batches)
        assert lane._way.alerts_under_way == 1
        sender.go.set()
        await until_in_loop(lambda: sender.statuses)
        await until_in_loop(lambda: lane._way.alerts_under_way == 0)

        async def defect(alerts, written):
            raise KeyError("a defect")

        sender.send_alerts = defect
        box.add(pending("next", roi=None), "c1", 0)
        with pytest.raises(KeyError):
            await asyncio.wait_for(ran, 10)
        assert box._wakes == set()

    asyncio.run(go())


def test_the_bytes_of_both_copies_count_until_each_has_ended():
    async def go():
        lane, sender, _, spool, _ = lane_with(700, resent=8)
        lane._start_alerts()
        assert (lane._unanswered, len(lane._sending)) == (700, 1)
        await until_in_loop(lambda: len(sender.batches) == 2)
        assert (lane._unanswered, len(lane._sending)) == (1_400, 2)
        sender.go.set()
        await until_in_loop(lambda: not len(lane._sending))
        assert lane._unanswered == 0
        assert spool.acknowledged == [("e0", "json", 0)]

    asyncio.run(go())


def test_a_copy_that_is_not_needed_counts_for_nothing():
    async def go():
        lane, sender, _, _, road = lane_with(700, 700, resent=8)
        road.ahead = 0.05  # it would go after the answer
        sender.go.set()
        lane._start_alerts()
        await until_in_loop(lambda: not len(lane._sending))
        assert sender.batches == [["e0", "e1"]]
        assert (lane._unanswered, lane._way.copies_due) == (0, 0)

    asyncio.run(go())


@pytest.mark.parametrize("rate", [20_000.0, 12_500.0, 1_000.0])
def test_on_a_slow_way_a_copy_does_not_wait_for_the_room_of_a_first_one_that_failed(rate):
    """In 50 ms it carries less than the two copies, or not even one."""

    async def go():
        lane, sender, box, _, road = lane_with(700, resent=8)
        road.rate = rate
        failed = asyncio.Event()

        async def send_alerts(alerts, written):
            sender.batches.append([alert.id for alert in alerts])
            if len(sender.batches) == 1:
                await failed.wait()
                raise SendError("no whole response in 10 s")
            return [Answer(True)]

        sender.send_alerts = send_alerts
        lane._start_alerts()
        await until_in_loop(lambda: len(lane._sending) == 2)
        failed.set()
        await until_in_loop(lambda: not len(lane._sending))
        assert sender.batches == [["e0"], ["e0"]]
        assert (lane._unanswered, len(box.alerts), lane._pauses.failures) == (0, 0, 0)

    asyncio.run(go())


def test_a_lane_that_ends_before_a_copy_began_keeps_what_was_not_answered():
    async def go():
        lane, _, box, _, _ = lane_with(700, resent=8)
        lane._start_alerts()
        while len(lane._sending) < 2:
            await asyncio.sleep(0)
        await lane._sending.end()
        assert (len(box.queue), lane._unanswered) == (1, 0)

    asyncio.run(go())


def test_a_first_copy_that_fails_at_once_is_the_only_one():
    async def go():
        lane, sender, box, _, _ = lane_with(700, resent=8)
        sender.errors = [SendError("cannot connect")]
        lane._start_alerts()
        await until_in_loop(lambda: not len(lane._sending))
        assert sender.batches == [["e0"]]
        assert (len(box.queue), lane._unanswered, lane._pauses.failures) == (1, 0, 1)

    asyncio.run(go())


def test_what_neither_copy_brought_waits_again_once():
    async def go():
        lane, sender, box, _, _ = lane_with(700, resent=8)
        held = asyncio.Event()

        async def fail(alerts, written):
            sender.batches.append([alert.id for alert in alerts])
            await held.wait()
            raise BusyError("503")

        sender.send_alerts = fail
        lane._start_alerts()
        await until_in_loop(lambda: len(sender.batches) == 2)
        assert len(box.queue) == 0
        held.set()
        await until_in_loop(lambda: not len(lane._sending))
        assert (len(box.queue), lane._unanswered, lane._pauses.failures) == (1, 0, 1)

    asyncio.run(go())


def test_a_lane_sleeps_until_its_pause_is_over_or_its_status_is_due(monkeypatch):
    async def go():
        lane, _, _, _, _ = lane_with()
        now = asyncio.get_running_loop().time()
        lane._pauses.until = now + 7.0
        lane._start_status = lambda now: None
        with pytest.raises(KeyError):
            await lane.run()
        lane._pauses.until = now
        lane._start_status = lambda now: setattr(lane, "_status_at", now + 3.0)
        with pytest.raises(KeyError):
            await lane.run()

    async def wait(event, seconds):
        waits.append(seconds)
        raise KeyError("enough")

    waits = []
    monkeypatch.setattr(alert_lane, "wait", wait)
    asyncio.run(go())
    assert waits == [pytest.approx(7.0, abs=1), pytest.approx(3.0, abs=1)]


@pytest.mark.parametrize("first", [0, 1], ids=["the first copy", "the second copy"])
def test_a_copy_that_got_lost_holds_up_no_alert_once_the_other_one_is_answered(first):
    """TCP repairs it 200 ms later; its bytes are not on their way meanwhile."""

    async def go():
        lane, sender, box, _, _ = lane_with(700, resent=8)
        answers = [asyncio.Event(), asyncio.Event()]
        requests = iter(answers)

        async def send_alerts(alerts, written=lambda: None):
            sender.batches.append([alert.id for alert in alerts])
            await next(requests).wait()
            return [Answer(True)]

        sender.send_alerts = send_alerts
        lane._start_alerts()
        await until_in_loop(lambda: len(sender.batches) == 2)
        assert lane._unanswered == 1_400
        answers[first].set()
        await until_in_loop(lambda: lane._unanswered == 0)
        assert len(lane._sending) == 1  # the lost one
        answers[1 - first].set()
        await until_in_loop(lambda: not lane._sending)
        assert lane._unanswered == 0
        assert not box.alerts

    asyncio.run(go())
