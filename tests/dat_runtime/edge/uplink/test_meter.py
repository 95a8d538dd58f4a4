from dat_runtime.edge.uplink.meter import Meter
from dat_runtime.edge.uplink.sender import Progress
from dat_runtime.planning.path import Path


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


def test_a_round_trip_is_never_too_short_because_of_when_it_was_looked_at():
    sender, path = Told(), Path(1e6)
    meter = Meter(sender, path)
    meter.read(1.0)
    sender.now = Progress(100, 0, None)  # written and acknowledged between two looks
    meter.read(1.5)
    assert path.round_trip >= 0.4
