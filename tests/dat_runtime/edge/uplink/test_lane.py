import asyncio

import pytest

from dat_runtime.edge.spool import SpoolError
from dat_runtime.edge.uplink import lane
from dat_runtime.edge.uplink.lane import Health, Meter, Pauses, Running, Way, wait
from dat_runtime.edge.uplink.sender import BusyError, Progress, SendError
from dat_runtime.planning.path import Path


def pauses(sender=None):
    return Pauses(Way(sender or Told(), Path(1e5), False, None, Health()))


def test_what_a_receiver_asked_for_is_not_taken_back_by_an_answer_to_an_earlier_request():
    async def go():
        waits = pauses()
        now = asyncio.get_running_loop().time()
        waits.failed(BusyError("429", retry_after=60.0))
        waits.worked()
        assert waits.until >= now + 60
        again = pauses()
        again.failed(SendError("closed"))
        again.worked()  # nothing was asked for: it works again
        assert again.until <= asyncio.get_running_loop().time()

    asyncio.run(go())


class Told:
    """A sender whose progress the test sets."""

    def __init__(self):
        self.now = Progress(0, 0, None)

    def progress(self):
        return self.now


def test_a_path_learns_what_is_in_flight_and_what_arrived():
    sender, path = Told(), Path(1e5)
    meter = Meter(sender, path)
    sender.now = Progress(0, 5_000, None)
    meter.read(1.0)
    assert path.in_flight == 5_000
    sender.now = Progress(4_000, 1_000, 0.1)
    meter.read(1.2)
    assert path.in_flight == 1_000
    assert 0 < path.round_trip <= 0.2


def test_a_connection_that_broke_leaves_nothing_in_flight():
    sender, path = Told(), Path(1e5)
    meter = Meter(sender, path)
    sender.now = Progress(1_000, 5_000, 0.1)
    meter.read(1.0)
    sender.now = Progress(1_000, 300, 0.1)
    meter.read(1.1)
    assert path.in_flight == 300


def test_what_an_earlier_sender_left_on_its_way_is_not_in_flight():
    sender, path = Told(), Path(1e5)
    Meter(sender, path).read(0.0)
    sender.now = Progress(0, 5_000, None)
    Meter(sender, path).read(1.0)
    Meter(Told(), path).read(2.0)
    assert path.in_flight == 0


def test_what_is_in_flight_beside_a_connection_that_broke_measures_no_round_trip():
    sender, path = Told(), Path(1e5)
    meter = Meter(sender, path)
    meter.read(1.0)
    sender.now = Progress(0, 5_000, None)
    meter.read(1.0)
    sender.now = Progress(5_000, 6_000, None)
    meter.read(1.1)  # 0.1 s
    sender.now = Progress(5_000, 5_500, None)  # 500 bytes are gone, the others on their way
    meter.read(1.19)
    sender.now = Progress(10_500, 0, None)
    meter.read(1.2)  # 0.1 s again, and not 0.01
    assert path.round_trip >= 0.08
    assert path.in_flight == 0


def test_a_round_trip_is_never_too_short_because_of_when_it_was_looked_at():
    sender, path = Told(), Path(1e6)
    meter = Meter(sender, path)
    meter.read(1.0)
    sender.now = Progress(100, 0, None)  # written and acknowledged between two looks
    meter.read(1.5)
    assert path.round_trip >= 0.4


def test_health_says_since_when_a_way_fails_and_when_it_last_worked():
    health = Health()
    health.failed(5.0, "no network")
    health.failed(6.0, "no route")
    assert health == Health(False, 5.0, None, "no route")
    health.worked(7.0)
    assert health == Health(True, None, 7.0, "")
    health.failed(8.0, "no network")
    assert health == Health(False, 8.0, 7.0, "no network")


class NotingPath:
    """What a path is told, in order."""

    def __init__(self):
        self.told = []

    def lost(self, left=0):
        self.told.append(("lost", left))

    def sent(self, at, size):
        self.told.append(("sent", at, size))

    def acknowledged(self, now, size, round_trip, beyond=0):
        self.told.append(("arrived", now, size, round_trip, beyond))

    def idle(self):
        self.told.append(("idle",))


def test_what_a_path_is_told_between_two_looks():
    sender, path = Told(), NotingPath()
    meter = Meter(sender, path)
    looks = [
        (1.0, Progress(0, 500, None), [("sent", 0.0, 500)]),
        (2.0, Progress(0, 500, None), [("sent", 1.0, 0)]),
        (3.0, Progress(1, 499, 0.1), [("sent", 2.0, 0), ("arrived", 3.0, 1, 0.1, 0)]),
        (4.0, Progress(1, 599, 0.1), [("sent", 3.0, 100)]),
        # Bytes after a lost packet are a sign of life too.
        (5.0, Progress(1, 599, 0.2, beyond=7), [("sent", 4.0, 0), ("arrived", 5.0, 0, 0.2, 7)]),
        (6.0, Progress(1, 599, 0.2, unsent=1), [("sent", 5.0, 0), ("idle",)]),
        (7.0, Progress(1, 30, 0.2), [("lost", 30)]),
        (8.0, Progress(3, 30, 0.2), [("sent", 7.0, 2), ("arrived", 8.0, 2, 0.2, 0)]),
    ]
    assert path.told == [("lost", 0)]
    for now, progress, told in looks:
        path.told.clear()
        sender.now = progress
        meter.read(now)
        assert path.told == told


def test_the_first_byte_that_arrived_is_told():
    sender, path = Told(), NotingPath()
    way = Way(sender, path, False, None, Health())
    sender.now = Progress(1, 0, 0.1)
    way.meter.read(1.0)
    assert path.told == [("lost", 0), ("sent", 0.0, 1), ("arrived", 1.0, 1, 0.1, 0)]


def test_a_meter_counts_packets_that_were_sent_again():
    sender = Told()
    meter = Meter(sender, NotingPath())
    sender.now = Progress(0, 0, None, packets=100, resent=3)
    assert not meter.losses.is_lossy
    meter.read(1.0)
    assert meter.losses.is_lossy


class Clock:
    """The event loop's clock, set by the test, and pauses of one second a failure."""

    def __init__(self, monkeypatch):
        self.now, self.told = 100.0, []
        monkeypatch.setattr(lane.asyncio, "get_running_loop", lambda: self)
        monkeypatch.setattr(lane, "pause", self.pause)

    def time(self):
        return self.now

    def pause(self, error, failures):
        self.told.append((type(error), str(error), failures))
        return float(failures)


def test_failures_in_a_row_wait_longer_and_those_that_come_together_count_once(monkeypatch):
    clock = Clock(monkeypatch)
    waits = pauses()
    waits.failed(SendError("closed"))
    assert (waits.failures, waits.until) == (1, 101.0)
    clock.now = 100.5
    waits.failed(BusyError("503"))  # under way together with the first
    assert (waits.failures, waits.until) == (1, 101.0)
    clock.now = 101.0
    waits.failed(SpoolError("cannot be read"))
    assert (waits.failures, waits.until) == (2, 103.0)
    assert clock.told == [(SendError, "closed", 1), (SendError, "cannot be read", 2)]
    assert waits.way.health == Health(False, 100.0, None, "cannot be read")
    clock.now = 102.0
    waits.worked()
    assert (waits.failures, waits.until) == (0, 102.0)
    assert waits.way.health == Health(True, None, 102.0, "")


def test_the_longest_wait_that_a_receiver_asked_for_holds(monkeypatch):
    clock = Clock(monkeypatch)
    waits = pauses()
    waits.failed(BusyError("429", retry_after=60.0))
    assert waits.until == 160.0
    clock.now = 110.0
    waits.failed(BusyError("429", retry_after=20.0))
    assert waits.until == 160.0
    clock.now = 130.0
    waits.failed(BusyError("429", retry_after=50.0))
    assert waits.until == 180.0
    waits.worked()
    assert waits.until == 180.0
    clock.now = 190.0
    waits.worked()
    assert waits.until == 190.0


def test_a_wait_ends_with_its_event_or_its_time():
    async def go():
        event = asyncio.Event()
        clock = asyncio.get_running_loop().time
        began = clock()
        await wait(event, 0.02)
        assert 0.015 <= clock() - began < 5
        event.set()
        await wait(event, 20)
        await wait(event, None)
        return clock() - began

    assert asyncio.run(go()) < 10


def test_a_task_that_ends_wakes_its_lane_and_its_defect_is_raised_there():
    async def fine():
        pass

    async def defect():
        raise KeyError("a defect")

    async def go():
        wake = asyncio.Event()
        running = Running(wake)
        running.start(fine())
        assert len(running) == 1
        await wait(wake, 5)
        assert wake.is_set()
        assert len(running) == 0
        running.check()
        running.start(defect())
        running.start(fine())  # another one that ends well takes nothing back
        await asyncio.sleep(0.01)
        with pytest.raises(KeyError):
            running.check()

    asyncio.run(go())


def test_the_end_of_a_lane_waits_until_its_tasks_have_ended():
    ended = []

    async def slow(name):
        try:
            await asyncio.sleep(20)
        finally:
            ended.append(name)
            if name == "b":
                raise KeyError("while it ends")

    async def go():
        running = Running(asyncio.Event())
        for name in "abc":
            running.start(slow(name))
        await asyncio.sleep(0)
        await running.end()
        assert len(running) == 0
        assert sorted(ended) == ["a", "b", "c"]
        with pytest.raises(KeyError):
            running.check()
        await Running(asyncio.Event()).end()

    asyncio.run(go())
    assert sorted(ended) == ["a", "b", "c"]
