import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.planning.live import LiveQueue
from dat_runtime.planning.path import PACKET, Path
from eval.uplink import real_lanes
from eval.uplink.arrivals import Event
from eval.uplink.emulated_link import not_permitted
from eval.uplink.lanes import (
    FRAME,
    HEADERS,
    MSS,
    VISUALS,
    LaneDelivery,
    simulate,
    simulate_fifo,
)
from eval.uplink.link import LinkSettings
from eval.uplink.window import Connection, Packet


def event(name, at=0.0, visual=None, json=450):
    return Event(name, at, at, 0.5, json, visual, visual, visual)


def images_and_alerts(seconds, every=0.5):
    """Images of which there are always more than the link carries, and an alert now and then.

    The first one comes when TCP's window is open: while it opens, packets leave in bursts.
    """
    images = [event(f"image {i}", 0.0, 60_000, 0) for i in range(int(8 * seconds))]
    times = [2.0 + every * i for i in range(int((seconds - 3) / every))]
    return images + [event(f"alert {at}", at) for at in times]


def waits(deliveries, round_trip):
    return [
        d.alert_known_at - d.event.captured_at - round_trip
        for d in deliveries
        if d.event.id.startswith("alert")
    ]


def sent_in_lanes(events, settings):
    return simulate(events, settings, LiveQueue(Path(settings.rates[0])))


@pytest.mark.parametrize("round_trip", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("rate", [50e3, 250e3])
def test_an_alert_waits_at_most_50_ms_behind_images_that_never_end(rate, round_trip):
    settings = LinkSettings([rate], round_trip)
    found = sorted(waits(sent_in_lanes(images_and_alerts(12), settings), round_trip))
    assert found[int(0.9 * len(found))] < 0.05
    assert found[-1] < 0.07


def test_a_fifo_makes_it_wait_for_all_of_them():
    found = waits(simulate_fifo(images_and_alerts(10), LinkSettings([50e3], 0.1)), 0.1)
    assert min(found) > 2.0


def test_one_small_alert_takes_its_bytes_and_half_a_round_trip():
    found = sent_in_lanes([event("alert", json=400)], LinkSettings([10e3], 0.2))
    assert found[0].json_at == pytest.approx((400 + FRAME + HEADERS) / 10e3 + 0.1)
    assert found[0].alert_known_at == pytest.approx(found[0].json_at + 0.1, abs=0.0021)


def test_in_a_fifo_a_unit_arrives_half_a_round_trip_after_its_last_byte_left():
    found = simulate_fifo([event("a", json=400, visual=1_000)], LinkSettings([10e3], 0.2))
    alert = 400 + FRAME + HEADERS
    assert found[0].json_at == pytest.approx(alert / 10e3 + 0.1)
    visual = 1_000 + FRAME + HEADERS
    assert found[0].visual_at == pytest.approx((alert + visual) / 10e3 + 0.1)


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 20_000)), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.sampled_from([0.0, 0.02, 0.3]),
    st.integers(0, 5),
)
@settings(max_examples=15, deadline=None)
def test_everything_arrives_whatever_is_lost(drawn, round_trip, loss, seed):
    events = [event(f"e{i}", at, size) for i, (at, size) in enumerate(drawn)]
    found = sent_in_lanes(events, LinkSettings([100e3], round_trip, loss=loss, seed=seed))
    for delivery in found:
        assert delivery.json_at >= delivery.event.captured_at + round_trip / 2
        assert delivery.alert_known_at >= delivery.json_at + round_trip / 2 - 1e-9
        assert delivery.visual_at >= delivery.event.captured_at + round_trip / 2


def test_losses_delay_and_do_not_stop_the_images():
    events = [event(f"image {i}", 0.0, 60_000) for i in range(60)]

    def last(loss):
        found = sent_in_lanes(events, LinkSettings([250e3], 0.1, loss=loss))
        return max(delivery.visual_at for delivery in found)

    assert last(0.02) < 1.1 * last(0.0)


@pytest.mark.skipif(not_permitted() is not None, reason=f"no namespaces: {not_permitted()}")
def test_over_the_kernels_tcp_alerts_pass_the_images_and_in_a_fifo_they_do_not():
    images = [event(f"image {i}", 0.0, 60_000, 0) for i in range(6)]
    events = images + [event(f"alert {i}", 1.0 + 0.3 * i) for i in range(4)]
    settings = LinkSettings([100e3], 0.1)
    lanes = sorted(waits(real_lanes.run(events, settings), 0.1))
    fifo = sorted(waits(real_lanes.run(events, settings, fifo=True), 0.1))
    assert len(lanes) == len(fifo) == 4
    # Of the median: the machine has other work.
    assert lanes[2] < 0.25 * fifo[2]


def test_a_connection_begins_with_ten_packets_and_doubles_them_each_round_trip():
    lane = Connection()
    lane.unsent.extend(Packet(VISUALS, MSS, None) for _ in range(200))
    rounds = []
    for _ in range(4):
        sent = 0
        while lane.next() is not None:
            sent += 1
        rounds.append(sent)
        for _ in range(sent):
            lane.known()
    assert rounds == [10, 20, 40, 80]


def test_a_window_that_holds_nothing_back_does_not_grow():
    lane = Connection()
    for _ in range(100):
        lane.unsent.append(Packet(VISUALS, MSS, None))
        assert lane.next() is not None
        lane.known()
    lane.unsent.extend(Packet(VISUALS, MSS, None) for _ in range(50))
    assert len(list(iter(lane.next, None))) == 10


def sent_now(lane):
    """How many packets the window lets out now, of which there are always more."""
    packets = [Packet(VISUALS, MSS, None) for _ in range(100)]
    lane.unsent.extend(packets)
    lane.missing.extend(packets)
    return len(list(iter(lane.next, None)))


def test_after_a_loss_a_packet_goes_for_each_that_arrives_until_all_that_was_sent_has():
    lane = Connection()
    assert sent_now(lane) == 10
    for _ in range(4):  # of ten, the first of which is lost
        lane.known()
    lane.lost()
    lane.lost()  # a second one in the same round trip costs no more
    for _ in range(5):
        lane.known()
        assert sent_now(lane) == 1
    for _ in range(10):  # the lost one is there too, with all that was sent before it was noticed
        lane.missing.popleft()
    lane.known()
    assert sent_now(lane) == 9, "fourteen, as before the loss, of which five are on their way"


def test_the_first_image_on_a_long_way_takes_the_round_trips_in_which_the_window_opens():
    """40 packets take 6 ms on the link: ten, twenty, and the rest, a round trip apart."""
    settings = LinkSettings([1e7], 0.2)
    (image,) = sent_in_lanes([event("image", 0.0, 40 * (MSS - FRAME), 1)], settings)
    assert 0.5 <= image.visual_at < 0.56


def test_a_later_layer_does_not_change_when_a_visual_could_be_viewed():
    delivery = LaneDelivery(event("a", visual=PACKET))
    queue = LiveQueue(Path(1e6), first_layer=0.5)
    queue.add(real_lanes.live_event(delivery.event, True))
    at = 0.0
    while chunk := queue.next_chunk(at):
        at += 1.0
        delivery.arrived(chunk, at)
        queue.sent(chunk)
    assert delivery.json_at == 1.0
    assert delivery.visual_at == 2.0 < at
