import asyncio

from dat_runtime.edge.uplink.lane import Health, Meter, Pauses, Way
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
