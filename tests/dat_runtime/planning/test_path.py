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


@pytest.mark.parametrize("beyond", [500, 1])
def test_what_a_gap_delayed_does_not_pass_for_a_queue_or_a_round_trip(beyond):
    path = Path(50e3)
    path.sent(0.0, 500)
    path.sent(0.0, beyond)
    path.acknowledged(0.1, 0, beyond=beyond)
    path.acknowledged(5.0, 500 + beyond)
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
    with pytest.raises(
        ValueError, match=rf"^initial must be finite and not negative, got {initial}$"
    ):
        Path(initial)


def told(path, now, count, seconds):
    """So many round trips, each told apart from the one before: the same again is not news."""
    for i in range(count):
        path.acknowledged(now, 0, round_trip=seconds + i % 2 * 1e-9)


@pytest.mark.parametrize(("samples", "forgotten"), [(8, 10), (6, 13), (16, 10)])
def test_a_least_round_trip_is_kept_for_ten_periods_of_a_second_and_eight_samples(
    samples, forgotten
):
    path = Path(50e3)
    told(path, 0, samples, 0.05)
    second = 0
    while path.round_trip < 0.2:
        second += 1
        told(path, second, samples, 0.2)
    assert second == forgotten


def about_to_forget(path, oldest, later):
    """The least round trip of the first of ten periods is shorter: it is about to be forgotten."""
    told(path, 0.0, 8, oldest)
    for second in range(1, 10):
        told(path, second, 8, later)
    return path


@pytest.mark.parametrize(
    ("oldest", "later", "drains"),
    [(0.0, 0.005, False), (0.0, 0.006, True), (0.05, 0.054, False), (0.05, 0.056, True)],
)
def test_the_queue_drains_where_all_later_round_trips_are_five_milliseconds_longer(
    oldest, later, drains
):
    path = about_to_forget(Path(100e3), oldest, later)
    assert path.room(9.0) == (1_000 if drains else 2_000)


@pytest.mark.parametrize(("rate", "probe"), [(10e3, PROBE), (100e3, 1_000), (1e6, PACKET)])
def test_while_it_drains_half_the_queues_seconds_go_in_one_packet(rate, probe):
    assert about_to_forget(Path(rate), 0.05, 0.2).room(9.0) == probe


def test_while_it_drains_three_quarters_of_what_the_wires_hold_are_on_their_way():
    path = about_to_forget(Path(100e3), 0.05, 0.2)  # the wires hold 5,000 bytes
    path.sent(9.0, 2_000)
    assert path.room(9.0) == 1_000
    path.sent(9.0, 1_550)
    assert path.room(9.0) == PROBE
    path.sent(9.0, 1)
    assert path.room(9.0) == 0
    path.acknowledged(9.02, 1)  # nothing was in flight when it began: a byte ends it
    assert path.room(10.0) == 2_000


def test_what_was_in_flight_when_draining_began_ends_it_and_as_much_again_says_little():
    path = Path(100e3)
    told(path, 0.0, 8, 0.05)
    for second in range(1, 9):
        told(path, second, 8, 0.2)
    path.sent(9.0, 3_000)
    told(path, 9.0, 1, 0.2)
    path.sent(9.0, 6_000)
    path.acknowledged(10.0, 2_999)
    assert path.room(10.0) == 0  # 6,001 are in flight
    path.acknowledged(10.0, 1)
    assert path.room(10.0) == 1_000  # 5,000 and 2,000 less 6,000
    path.acknowledged(11.0, 3_000)
    assert path.rate == 100e3
    path.acknowledged(12.0, 3_000)
    assert path.rate == 3_000


def test_a_lost_connection_ends_the_draining():
    path = Path(100e3)
    path.sent(0.0, 500)
    path.lost()
    assert path.in_flight == 0
    assert path.room(0.0) == 2_000
    path = about_to_forget(path, 0.05, 0.2)
    path.lost()
    assert path.room(9.0) == 2_000


def far(round_trip=0.25, rate=51_200):
    """A path whose quarters and 512ths of a second are exact: 12,800 bytes lie in its wires."""
    path = Path(rate)
    path.acknowledged(0.0, 0, round_trip=round_trip)
    return path


def test_a_sample_begins_at_the_newest_arrival_that_is_a_round_trip_old():
    path = far(0.5, 100e3)
    path.sent(0.0, 30_000)
    path.acknowledged(0.25, 1_000)
    path.acknowledged(0.5, 9_000)
    assert path.rate == 100e3
    path.acknowledged(1.0, 5_000)
    assert path.rate == 10_000  # since 0.5
    path.acknowledged(1.25, 1_000)
    assert path.rate == 10_000  # the most of two round trips


def test_a_rate_is_believed_for_two_round_trips():
    path = far()
    path.sent(0.0, 100_000)
    for now, arrived, rate in (
        (0.25, 6_400, 51_200),  # limited
        (0.5, 12_800, 51_200),
        (0.75, 3_200, 51_200),
        (1.0, 1_600, 51_200),
        (1.25, 800, 12_800),
    ):
        path.acknowledged(now, arrived)
        assert path.rate == rate


@pytest.mark.parametrize(("more", "rate"), [(0, 51_200), (1 / 256, 800)])
def test_a_wait_of_more_than_twice_what_should_lie_in_the_buffer_ends_the_belief(more, rate):
    path = far()
    own, twice = 200 / 51_200, 2 * PACKET / 51_200
    path.sent(0.0, 6_400)
    path.sent(0.0, 12_800)
    path.acknowledged(0.25, 6_400)
    path.sent(0.75 - 0.25 - own - twice - more, 200)
    path.acknowledged(0.5, 12_800)
    assert path.rate == 51_200
    path.acknowledged(0.75, 200)
    assert path.rate == rate


def test_a_limited_sample_that_only_equals_the_rate_is_no_news():
    path = far(rate=10_000)
    path.sent(0.0, 9_000)
    path.acknowledged(0.5, 5_000)
    assert path.rate == 10_000
    path.acknowledged(0.75, 1_000)
    assert path.rate == 4_000


def test_a_sample_is_as_long_whatever_the_clock_shows():
    path = Path(1_000)
    path.sent(100.0, 9_000)
    path.acknowledged(100.04, 4_000)
    assert path.rate == 1_000


def gain(path, now):
    """How much faster than the rate bytes drain: 2 % for pacing, and what is tried."""
    path.sent(now, 12_800)
    tried = (path.wait(now) - path.wait(now + 1 / 16)) * 16 / 1.02
    path.acknowledged(now + 1 / 16, 0)
    return round(tried, 9)


def round_of(path, now, late=0.0):
    """A round trip in which 12,800 bytes arrive, the last 200 so much later than they should."""
    path.sent(now, 12_600)
    path.sent(now, 200)
    path.acknowledged(now + 0.25 + late, 12_800)
    return now + 0.25 + late


def test_more_is_tried_after_each_round_without_a_queue_up_to_twice_the_rate():
    for rounds, expected in ((0, 1), (1, 1), (2, 1.25), (3, 1.5), (4, 2), (5, 2)):
        path, now = far(), 0.0
        for _ in range(rounds):
            now = round_of(path, now)
        assert gain(path, now) == expected


@pytest.mark.parametrize(("more", "expected"), [(0, 1.5), (1 / 512, 1)])
def test_half_of_what_may_lie_in_the_buffer_is_a_queue_if_it_is_more(more, expected):
    path, now = far(), 0.0
    for _ in range(2):
        now = round_of(path, now)
    now = round_of(path, now, late=200 / 51_200 + PACKET / 51_200 / 2 + more)
    assert gain(path, now) == expected


def test_a_round_begins_when_what_was_in_flight_has_arrived():
    path = far()
    path.sent(0.0, 12_800)
    path.acknowledged(0.25, 6_400)
    path.acknowledged(0.25, 6_400)  # the first round: it ends here, and the next is clear
    path.sent(0.25, 12_800)
    assert path.wait(0.25) - path.wait(0.375) == pytest.approx(1.02 / 8)
    path.acknowledged(0.5, 1)
    assert gain(path, 0.5) == 1.25
    path.acknowledged(0.5625, 6_400)
    path.acknowledged(0.5625, 6_398)
    assert gain(path, 0.5625) == 1.25


def test_a_round_of_one_byte_is_one_too():
    path = far()
    for now in (0.0, 0.25):
        path.sent(now, 1)
        path.acknowledged(now + 0.25, 1)
    assert gain(path, 0.5) == 1.25


def test_a_round_that_begins_with_what_was_on_its_way_when_nothing_waited_shows_no_queue():
    path = far()
    path.sent(0.0, 12_800)
    path.sent(0.0, 6_400)
    path.idle()
    path.sent(0.25, 6_400)
    path.acknowledged(0.25, 12_800)
    path.acknowledged(0.5, 12_800)
    assert gain(path, 0.5) == 1


def test_nothing_written_begins_no_sample():
    path = Path(1_000)
    path.sent(0.0, 0)
    path.sent(1 / 32, 6_400)
    path.acknowledged(3 / 32, 6_400)
    assert path.rate == 102_400


def test_what_is_written_while_something_is_on_its_way_does_not_follow_a_pause():
    path = far(0.0, 1e6)
    path.sent(0.0, 6_400)
    path.sent(0.125, 6_400)
    path.acknowledged(0.25, 6_400)
    path.acknowledged(0.375, 6_400)
    assert path.rate == 51_200


def test_a_pause_of_a_shortest_sample_is_none_yet():
    path = Path(1_000)
    path.sent(0.0, 100)
    path.acknowledged(0.0, 100)
    path.sent(0.05, 6_400)
    path.acknowledged(0.1, 6_400)
    assert path.rate == 64_000


def test_what_was_in_flight_when_nothing_waited_says_little():
    path = Path(1e6)
    path.sent(0.0, 6_400)
    path.idle()
    path.sent(0.0, 6_400)
    path.acknowledged(0.25, 6_400)
    assert path.rate == 1e6


@pytest.mark.parametrize("pause", [Path.idle, Path.lost])
def test_after_a_word_of_idleness_or_a_loss_a_sample_begins_anew(pause):
    path = Path(1e6)
    path.sent(0.0, 6_400)
    path.acknowledged(0.25, 6_400)
    pause(path)
    assert path.in_flight == 0
    path.sent(0.25 + 1 / 32, 6_400)
    path.acknowledged(0.5 + 1 / 32, 6_400)
    assert path.rate == 1e6


def test_a_clock_that_steps_back_or_tells_nothing_stands_still():
    path = Path(10_000)
    path.sent(1.0, 1_000)
    assert path.wait(0.5) == pytest.approx(0.1)
    assert path.wait(1.05) == pytest.approx(0.049)
    path = Path(10_000)
    path.sent(math.nan, 1_000)  # at 0, if nothing else is known
    assert path.wait(0.0) == pytest.approx(0.1)
    assert path.wait(0.05) == pytest.approx(0.049)


def test_no_more_arrives_than_was_written():
    path = Path(50e3)
    path.sent(0.0, 1_000)
    path.acknowledged(0.1, 600)
    path.acknowledged(0.1, 0, beyond=900)
    assert path.in_flight == 0
    path.acknowledged(0.1, 900)
    path.acknowledged(0.2, 500)
    assert path.in_flight == 0


def test_a_round_trip_of_nothing_is_one():
    path = Path(50e3)
    path.acknowledged(0.0, 0, round_trip=0.1)
    path.acknowledged(0.0, 0, round_trip=0.0)
    assert path.round_trip == 0.0


def test_a_path_may_be_slower_than_a_byte_a_second():
    assert Path(0.5).rate == 0.5
