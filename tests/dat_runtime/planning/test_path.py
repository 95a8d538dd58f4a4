import heapq
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.planning.path import PACKET, PROBE, QUEUE_SECONDS, Path


class Wire:
    """A bottleneck with an endless buffer and a round trip, served in order; a sender that polls.

    `rate_at` gives bytes per second at a time; images always wait unless `until` is over.
    """

    def __init__(self, path, rate_at, round_trip, step=0.002, piece=PACKET):
        self.path = path
        self.rate_at = rate_at
        self.round_trip = round_trip
        self.step = step
        self.piece = piece
        self.now = 0.0
        self.buffered = []  # sizes, the first one being served
        self.on_the_way = []  # a heap: (when acknowledged, size)
        self.served = 0.0  # bytes of the first one that are through
        self.arrived = 0
        self.waits = []  # (time, seconds that a byte written now would wait in the buffer)

    @property
    def queued(self):
        return sum(self.buffered) - self.served

    def run(self, until, writes=True):
        while self.now < until:
            self._serve()
            while self.on_the_way and self.on_the_way[0][0] <= self.now:
                _, size = heapq.heappop(self.on_the_way)
                self.arrived += size
                self.path.acknowledged(self.now, size)
            while writes and (room := self.path.room(self.now)):
                size = min(room, self.piece)
                self.path.sent(self.now, size)
                self.buffered.append(size)
            rate = self.rate_at(self.now)
            self.waits.append((self.now, self.queued / rate if rate else math.inf))
            self.now += self.step
        return self

    def _serve(self):
        self.served += self.rate_at(self.now) * self.step
        while self.buffered and self.served >= self.buffered[0]:
            size = self.buffered.pop(0)
            self.served -= size
            heapq.heappush(self.on_the_way, (self.now + self.round_trip, size))
        if not self.buffered:
            self.served = 0.0

    def longest_wait(self, since, until=math.inf):
        return max(wait for at, wait in self.waits if since <= at < until)


def wire(rate, round_trip, initial=None, **options):
    path = Path(initial or rate)
    path.acknowledged(0.0, 0, round_trip)
    return Wire(path, lambda now: rate, round_trip, **options)


@pytest.mark.parametrize("round_trip", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("rate", [50e3, 250e3, 2e6])
def test_the_link_is_kept_busy_and_its_buffer_nearly_empty(rate, round_trip):
    link = wire(rate, round_trip).run(6.0)
    before = link.arrived
    link.run(12.0)
    assert (link.arrived - before) / 6.0 > 0.9 * rate
    # One packet or 20 ms, what is being served, and what changes between two looks.
    assert link.longest_wait(since=1.0) < max(QUEUE_SECONDS, PACKET / rate) + PACKET / rate + 0.02


@pytest.mark.parametrize("round_trip", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_a_first_belief_that_is_ten_times_wrong_is_corrected_in_seconds(factor, round_trip):
    link = wire(250e3, round_trip, initial=250e3 * factor).run(4.0)
    assert link.path.rate == pytest.approx(250e3, rel=0.1)
    assert link.longest_wait(since=4.0 - 0.5) < 0.06


@pytest.mark.parametrize("round_trip", [0.0, 0.1, 0.3])
def test_a_link_that_falls_vanishes_and_returns_is_followed(round_trip):
    megabit = 125_000.0
    steps = [(0, 2 * megabit), (8, 0.1 * megabit), (20, 0.0), (25, 2 * megabit)]

    def rate_at(now):
        return next(rate for start, rate in reversed(steps) if start <= now)

    path = Path(2 * megabit)
    path.acknowledged(0.0, 0, round_trip)
    link = Wire(path, rate_at, round_trip).run(16.0)
    # What was on its way when the link fell has drained (2 Mbit/s * 0.3 s at 0.1 Mbit/s: 6 s).
    assert path.rate == pytest.approx(0.1 * megabit, rel=0.3)
    assert link.longest_wait(since=15.5) < 2.5 * PACKET / (0.1 * megabit)
    link.run(25.0)
    before = link.arrived
    link.run(25.0 + 3.0 + 10 * round_trip)
    link.run(link.now + 1.0)
    assert link.arrived > before + 2 * megabit
    assert path.rate == pytest.approx(2 * megabit, rel=0.15)
    assert link.longest_wait(since=link.now - 1.0) < 0.06


@given(
    st.lists(st.sampled_from([0.0, 5e3, 50e3, 250e3, 1e6]), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.02, 0.2]),
    st.sampled_from([1e3, 100e3, 10e6]),
)
@settings(max_examples=15, deadline=None)
def test_whatever_the_link_did_it_is_used_again_when_it_comes_back(rates, round_trip, initial):
    def rate_at(now):
        return rates[int(now)] if now < len(rates) else 100e3

    path = Path(initial)
    path.acknowledged(0.0, 0, round_trip)
    link = Wire(path, rate_at, round_trip, step=0.004).run(float(len(rates)))
    # All that is on its way drains first: the longest a wrong first belief can have filled.
    link.run(len(rates) + 2.0 + link.queued / 100e3 + 15 * round_trip)
    before = link.arrived
    link.run(link.now + 2.0)
    assert link.arrived - before > 0.8 * 2.0 * 100e3


def test_a_sender_with_little_to_send_says_nothing_of_the_rate():
    path = Path(100e3)
    for second in range(60):
        path.sent(second, 500)
        path.idle()
        path.acknowledged(second + 0.1, 500)
    assert path.rate == 100e3


def test_the_last_bytes_of_a_burst_that_are_lost_and_sent_again_say_nothing_of_the_rate():
    link = wire(250e3, 0.05).run(3.0)
    link.path.idle()
    link.run(3.5, writes=False)
    link.path.sent(4.0, 14_000)
    link.path.idle()
    link.path.acknowledged(4.1, 12_600)
    link.path.acknowledged(4.5, 1_400)
    assert link.path.rate == pytest.approx(250e3, rel=0.1)


def test_a_sender_with_little_to_send_may_still_show_that_the_path_carries_more():
    path = Path(1e3)
    path.acknowledged(0.0, 0, 0.05)
    path.sent(0.0, 50_000)
    path.idle()
    for i in range(1, 11):
        path.acknowledged(0.05 + 0.01 * i, 5_000)
    assert path.rate > 100e3


def test_without_a_word_of_idleness_a_pause_is_seen_too():
    path = Path(100e3)
    for second in range(60):
        path.sent(second, 500)
        path.acknowledged(second + 0.1, 500)
    assert path.rate == 100e3


def test_a_burst_after_a_pause_is_spread_over_the_round_trip():
    """Else a window of bytes lies in the buffer at once, and an alert waits a round trip more."""
    path = Path(250e3)
    path.acknowledged(0.0, 0, 0.3)
    written = []
    for now in (10.0, *(10.0 + i / 200 for i in range(41))):
        written.append(path.room(now))
        path.sent(now, written[-1])
    assert written[:2] == [250e3 * QUEUE_SECONDS, 0]
    assert sum(written[2:]) == pytest.approx(250e3 * 0.2, rel=0.1)


@pytest.mark.parametrize(
    ("rate", "allowed"),
    [(50e3, PACKET), (PACKET / QUEUE_SECONDS, PACKET), (250e3, 250e3 * QUEUE_SECONDS)],
)
def test_a_packet_or_twenty_milliseconds_may_lie_in_the_buffer(rate, allowed):
    assert Path(rate).room(0.0) == pytest.approx(allowed, abs=1)


def test_what_is_written_waits_until_what_was_written_before_has_drained():
    path = Path(10_000)
    assert path.wait(0.0) == 0.0
    path.sent(0.0, 1_000)
    assert path.wait(0.0) == pytest.approx(0.1)
    assert path.wait(0.05) == pytest.approx(0.049)  # it drains 2 % faster than the rate
    path.acknowledged(0.06, 1_000)
    assert path.wait(0.06) == 0.0


def test_room_is_half_of_what_may_lie_there_or_none():
    path = Path(50e3)
    path.sent(0.0, PACKET // 2)
    assert path.room(0.0) == PACKET // 2
    path.sent(0.0, 1)
    assert path.room(0.0) == 0


def test_an_alert_counts_in_whichever_lane_it_goes():
    path = Path(50e3)
    path.sent(0.0, PACKET, "alerts")
    assert path.in_flight == PACKET
    assert path.room(0.0) == 0
    path.acknowledged(0.01, PACKET, lane="visuals")  # nothing was written there
    assert path.in_flight == PACKET
    path.acknowledged(0.01, PACKET, lane="alerts")
    assert path.in_flight == 0


def test_what_was_in_flight_on_a_lost_connection_is_forgotten():
    path = Path(50e3)
    path.sent(0.0, 10_000, "visuals")
    path.sent(0.0, 500, "alerts")
    path.lost("visuals")
    path.lost("never there")
    assert path.in_flight == 500
    path.acknowledged(0.1, 500, lane="alerts")
    assert path.room(0.1) == PACKET


def test_bytes_beyond_a_gap_have_arrived():
    path = Path(50e3)
    path.sent(0.0, 1_000)
    path.sent(0.0, 4_000)
    path.acknowledged(0.1, 0, beyond=4_000)
    assert path.in_flight == 1_000
    path.acknowledged(0.1, 0, beyond=9_000)  # more than there are
    assert path.in_flight == 0
    path.acknowledged(0.1, 0, beyond=4_000)
    path.acknowledged(0.2, 5_000)
    assert path.in_flight == 0


def test_what_a_gap_delayed_does_not_pass_for_a_queue_or_a_round_trip():
    path = Path(50e3)
    path.sent(0.0, 500)
    path.sent(0.0, 500)
    path.acknowledged(0.1, 0, beyond=500)
    path.acknowledged(5.0, 1_000)
    assert path.round_trip == 0.0  # none was measured


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["sent", "acknowledged", "idle", "lost", "room"]),
            st.one_of(st.floats(-1e12, 1e12), st.just(math.nan), st.just(math.inf)),
            st.integers(-100_000, 100_000),
            st.sampled_from([None, -1.0, 0.0, 0.1, math.nan, math.inf]),
            st.sampled_from(["a", "b"]),
        ),
        max_size=40,
    )
)
def test_clock_steps_and_impossible_sizes_are_survived_and_it_is_never_stuck(calls):
    path = Path(1e5)
    for what, now, size, round_trip, lane in calls:
        if what == "sent":
            path.sent(now, size, lane)
        elif what == "acknowledged":
            path.acknowledged(now, size, round_trip, lane)
        elif what == "idle":
            path.idle()
        elif what == "lost":
            path.lost(lane)
        assert path.room(now) >= 0
        assert path.rate > 0
        assert math.isfinite(path.rate)
        assert path.round_trip >= 0
        assert path.in_flight >= 0
    for lane in ("a", "b"):
        path.lost(lane)
    assert path.room(0.0) >= PROBE


def test_the_round_trip_is_the_least_without_the_time_that_its_own_bytes_took():
    path = Path(50e3)
    path.sent(0.0, 500)
    path.acknowledged(0.11, 500)
    assert path.round_trip == pytest.approx(0.1)
    path.sent(1.0, 500)
    path.acknowledged(1.2, 500)
    assert path.round_trip == pytest.approx(0.1)


def test_a_round_trip_that_became_longer_is_believed_after_a_while_and_not_after_an_outage():
    path = Path(50e3)

    def packets(count, start, round_trip):
        for i in range(count):
            path.sent(start + i, 100)
            path.acknowledged(start + i + round_trip, 100)

    packets(20, 0.0, 0.05)
    packets(1, 100.0, 60.0)  # an outage
    packets(20, 200.0, 0.05)
    assert path.round_trip < 0.06
    packets(200, 300.0, 0.2)
    assert path.round_trip == pytest.approx(0.2, abs=0.01)


def test_the_kernels_old_least_round_trip_is_not_news():
    path = Path(50e3)
    for i in range(200):
        path.sent(i, 100)
        path.acknowledged(i + 0.2, 100, round_trip=0.05)
    assert path.round_trip == pytest.approx(0.2, abs=0.01)


def test_a_queue_that_never_empties_does_not_pass_for_a_longer_way():
    link = wire(50e3, 0.05).run(60.0)
    assert link.path.round_trip < 0.05 + 0.02
    assert link.longest_wait(since=50.0) < 0.08


def test_a_rate_is_what_arrived_over_the_time_since_the_sample_began():
    path = Path(100e3)
    path.sent(0.0, 9_000)
    path.acknowledged(0.1, 3_000)  # the first sample began while nothing waited: it may only raise
    assert path.rate == 100e3
    path.acknowledged(0.2, 3_000)
    assert path.rate == pytest.approx(30e3)
    path.acknowledged(0.3, 3_000)  # 9,000 bytes that took 0.3 s: 10 ms of them are their own
    assert path.rate == pytest.approx(30e3)
    assert path.round_trip == pytest.approx(0.29)
    assert path.delay == pytest.approx(0.145)


def test_acknowledgements_closer_than_the_shortest_sample_are_no_rate_and_none_is_below_the_least():
    path = Path(1_000)
    path.sent(0.0, 9_000)
    path.acknowledged(0.049, 4_000)
    assert path.rate == 1_000
    path.acknowledged(0.05, 1_000)
    assert path.rate == pytest.approx(100e3)
    slow = Path(1_000)
    slow.sent(0.0, 9_000)
    slow.acknowledged(1.0, 1)
    slow.acknowledged(2.0, 1)
    assert slow.rate == 100.0


def test_room_is_what_has_drained_as_far_as_the_window_goes():
    def path_after(size):
        path = Path(100e3)  # 2,000 bytes may wait
        path.acknowledged(0.0, 0, round_trip=0.1)  # and 10,000 lie in the wires
        path.sent(0.0, size)
        return path

    assert path_after(2_000).room(0.0) == 0
    assert path_after(2_000).room(0.0095) == 0  # 969 of them have drained: less than half
    assert path_after(2_000).room(0.01) == 1_020
    assert path_after(2_000).room(0.1) == 2_000
    assert path_after(11_000).room(0.2) == 1_000
    assert path_after(11_001).room(0.2) == 0


def test_after_a_round_trip_without_a_queue_a_quarter_more_is_tried():
    path = Path(100e3)
    path.acknowledged(0.0, 0, round_trip=0.1)
    path.sent(0.0, 2_000)
    path.sent(0.05, 2_000)
    path.acknowledged(0.1, 2_000)
    path.acknowledged(0.151, 2_000)
    assert path.rate == 100e3
    path.sent(0.16, 2_000)
    assert path.room(0.17) == 1_275
    path.sent(0.17, 11_500)
    assert path.room(0.5) == 1_000


def test_of_a_lane_of_several_connections_those_that_are_left_still_count():
    path = Path(50e3)
    path.sent(0.0, 1_000, "visuals")
    path.lost("visuals", left=400)
    assert path.in_flight == 400
    path.acknowledged(0.3, 1_000, lane="visuals")
    assert path.in_flight == 0
    assert path.round_trip == 0.0  # when it was written is not known


def test_a_round_trip_that_is_told_counts_once_and_only_if_it_is_one():
    path = Path(50e3)
    for told in (-0.1, math.nan, math.inf):
        path.acknowledged(0.0, 0, round_trip=told)
        assert path.round_trip == 0.0
    path.acknowledged(0.0, 0, round_trip=0.2)
    path.acknowledged(0.0, 0, round_trip=0.1)
    path.acknowledged(0.0, 0, round_trip=0.3)
    assert (path.round_trip, path.delay) == (0.1, 0.05)
    path = Path(50e3)
    path.acknowledged(0.0, 0, round_trip=0.0)
    assert path.round_trip == 0.0


@pytest.mark.parametrize("initial", [0, -1, math.nan, math.inf])
def test_a_first_belief_that_is_none_is_refused(initial):
    with pytest.raises(ValueError, match="initial"):
        Path(initial)
