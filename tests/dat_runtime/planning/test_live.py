import math
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.planning.live import CHUNK, Bandwidth, LiveQueue
from dat_runtime.planning.path import Path
from dat_runtime.planning.waiting_visuals import PLANNED
from dat_runtime.schedule import PendingEvent
from tests.dat_runtime.planning.slow_queue import SlowQueue


def event(name, priority=0.5, json=100, visual=10_000, at=0.0, json_sent=False):
    return PendingEvent(name, priority, json, visual, None, at, json_sent)


def queue(rate=1e6, **options):
    return LiveQueue(Bandwidth(rate), **options)


def drained(waiting, rate=1e6, arrivals=()):
    """Send everything over a link of this rate; events enter at their capture."""
    coming, now, chunks = sorted(arrivals, key=lambda e: e.captured_at), 0.0, []
    while True:
        while coming and coming[0].captured_at <= now:
            waiting.add(coming.pop(0))
        chunk = waiting.next_chunk(now)
        if chunk is None:
            if not coming:
                return chunks
            now = coming[0].captured_at
            continue
        now += chunk.size / rate
        waiting.sent(chunk, chunk.size / rate)
        chunks.append((now, chunk))


def test_an_alert_goes_between_the_chunks_of_a_visual_under_way():
    chunks = drained(queue(), arrivals=[event("first", visual=20_000), event("second", at=0.006)])
    names = [(c.event_id, c.kind) for _, c in chunks]
    at = names.index(("second", "json"))
    assert names[at - 1] == ("first", "roi")
    assert ("first", "roi") in names[at:]


def test_an_alert_waits_for_one_chunk_at_most():
    chunks = drained(queue(), arrivals=[event("big", visual=500_000), event("late", at=0.1)])
    done = next(now for now, c in chunks if (c.event_id, c.kind) == ("late", "json"))
    assert done - 0.1 <= (CHUNK + 100) / 1e6 + 1e-9


def test_chunks_are_brief_on_a_slow_link():
    slow = queue(rate=200_000)
    slow.add(event("a", json_sent=True))
    assert slow.next_chunk(0.0).size == 1_400
    middling = queue(rate=400_000)
    middling.add(event("a", json_sent=True))
    assert middling.next_chunk(0.0).size == 2_000  # 5 ms
    fine = queue(chunk=500)
    fine.add(event("a", json_sent=True))
    assert fine.next_chunk(0.0).size == 500


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 500), st.integers(0, 30_000), st.floats(0, 3)),
        max_size=12,
    ),
    st.sampled_from([1.0, 0.25]),
    st.booleans(),
)
@settings(max_examples=60)
def test_every_byte_goes_once_and_in_order_within_its_unit(drawn, first_layer, fair):
    events = [event(f"e{i}", p, j, v, at) for i, (p, j, v, at) in enumerate(drawn)]
    chunks = drained(queue(first_layer=first_layer, fair=fair), arrivals=events)
    sent = {}
    for _, chunk in chunks:
        unit = (chunk.event_id, chunk.kind)
        assert chunk.offset == sent.get(unit, 0)
        sent[unit] = chunk.offset + chunk.size
    assert sent == {(e.id, "json"): e.json_bytes for e in events} | {
        (e.id, "roi"): e.roi_bytes for e in events
    }


def test_a_refinement_can_be_taken_out():
    waiting = queue(first_layer=0.25)
    for name in ("a", "b"):
        waiting.add(event(name, visual=8_000, json_sent=True))
        waiting.sent(waiting.next_chunk(0.0))
    waiting.remove("a")
    assert len(waiting) == 1
    assert {c.event_id for _, c in drained(waiting)} == {"b"}


def test_a_visual_that_cannot_be_in_time_goes_after_those_that_can():
    late = event("late", 1.0, visual=1_000, at=-10.0, json_sent=True)
    waiting = queue()
    waiting.add(late)
    waiting.add(event("young", 0.1, visual=20_000, json_sent=True))
    assert waiting.next_chunk(0.0).event_id == "young"


def test_a_late_visual_still_goes_when_the_link_is_idle():
    chunks = drained(queue(), arrivals=[event("late", at=-10.0)])
    assert [(c.kind, c.last) for _, c in chunks][-1] == ("roi", True)


def test_first_layers_go_before_any_refinement():
    waiting = queue(first_layer=0.25)
    for name in ("a", "b"):
        waiting.add(event(name, visual=8_000, json_sent=True))
    chunks = [(c.event_id, c.offset, c.last) for _, c in drained(waiting)]
    assert chunks == [
        ("a", 0, True),
        ("b", 0, True),
        ("a", 2_000, False),
        ("a", 6_000, True),
        ("b", 2_000, False),
        ("b", 6_000, True),
    ]


def test_with_fairness_a_quiet_camera_is_served_before_the_rest_of_a_busy_one():
    def order(**options):
        waiting = queue(**options)
        for i in range(4):
            waiting.add(event(f"busy {i}", 0.9, visual=1_000, json_sent=True), "busy")
        waiting.add(event("quiet", 0.5, visual=1_000, json_sent=True), "quiet")
        return [c.event_id for _, c in drained(waiting)]

    assert order()[-1] == "quiet"  # unless it is asked for
    assert order(fair=False)[-1] == "quiet"
    assert order(fair=True).index("quiet") == 1


@pytest.mark.parametrize("at", [0.0, -9.0])
def test_with_fairness_the_nth_in_a_row_counts_an_nth_part_late_or_not(at):
    waiting = queue(fair=True)
    for camera, priority, count in (("busy", 0.9, 4), ("quiet", 0.35, 2)):
        for i in range(count):
            new = event(f"{camera} {i}", priority, visual=1_000, at=at, json_sent=True)
            waiting.add(new, camera)
    assert [c.event_id for _, c in drained(waiting)] == [
        *("busy 0", "busy 1"),  # 0.9, 0.45
        "quiet 0",  # 0.35
        *("busy 2", "busy 3"),  # 0.3, 0.225
        "quiet 1",  # 0.175
    ]


def test_a_boxed_image_is_removed_by_its_kind():
    waiting = queue()
    waiting.add(replace(event("a", visual=None), box_bytes=500))
    waiting.remove("a", "roi")
    assert len(waiting) == 2
    waiting.remove("a", "box")
    assert [c.kind for _, c in drained(waiting)] == ["json"]


def test_the_bandwidth_follows_what_was_really_sent():
    bandwidth = Bandwidth(initial=1e6)
    for _ in range(1_000):
        bandwidth.sent(4_000, 0.02)
    assert math.isclose(bandwidth.estimate, 200_000, rel_tol=1e-6)


def test_old_bytes_and_old_seconds_fade_alike():
    bandwidth = Bandwidth(1e6, memory=2.0)
    bandwidth.sent(100_000, 1.0)
    kept = math.exp(-1 / 2)
    assert bandwidth.rate == pytest.approx((kept * 2e6 + 1e5) / (kept * 2 + 1))
    before = bandwidth.rate
    bandwidth.sent(-1, 1.0)
    assert bandwidth.rate == bandwidth.estimate == before
    bandwidth.sent(0, 1.0)
    assert bandwidth.rate < before
    one = Bandwidth(1e6)  # a second, unless something else is said
    one.sent(100_000, 1.0)
    assert one.rate == pytest.approx((1e6 / math.e + 1e5) / (1 / math.e + 1))


@pytest.mark.parametrize("number", [0, -1, math.nan, math.inf])
def test_a_bandwidth_that_is_none_is_refused(number):
    with pytest.raises(
        ValueError, match=rf"^initial must be finite and not negative, got {number}$"
    ):
        Bandwidth(number)
    with pytest.raises(
        ValueError, match=rf"^memory must be finite and not negative, got {number}$"
    ):
        Bandwidth(1.0, memory=number)


def test_what_makes_no_queue_is_refused_by_its_name():
    for name, bad in (("chunk", 0), ("first_layer", 0.0), ("first_layer", 1.1)):
        with pytest.raises(ValueError, match=rf"^{name} must be .* got {bad}$"):
            queue(**{name: bad})
    for name in ("offset", "code_offset"):
        with pytest.raises(ValueError, match=rf"^{name} of event 'a' must be .* got -1$"):
            queue().add(event("a"), **{name: -1})
    assert queue(chunk=1, first_layer=1.0).next_chunk(0.0) is None


def test_a_first_layer_is_rounded_up_to_a_byte():
    waiting = queue(first_layer=0.25)
    waiting.add(event("a", visual=10_001, json_sent=True))
    waiting.add(event("one", 0.0, visual=1, json_sent=True))
    first = [(c.event_id, c.size, c.last) for _, c in drained(waiting)]
    assert first[:2] == [("a", 2_501, True), ("one", 1, True)]
    assert sum(size for name, size, _ in first if name == "a") == 10_001


def test_all_that_waits_is_counted():
    waiting = queue(first_layer=0.25)
    for name in ("a", "b"):
        waiting.add(replace(event(name, visual=4_000), code_bytes=10))
    assert (waiting.alerts_waiting, waiting.codes_waiting, waiting.visuals_waiting) == (2, 2, 2)
    assert len(waiting) == 6
    while (chunk := waiting.next_chunk(0.0)).kind != "roi":
        waiting.sent(chunk)
    waiting.sent(chunk)  # its first layer: the rest waits
    assert (waiting.alerts_waiting, waiting.codes_waiting, waiting.visuals_waiting) == (0, 0, 2)


def test_a_bad_event_is_refused_by_the_name_of_its_field():
    with pytest.raises(ValueError, match="roi_bytes"):
        queue().add(event("a", visual=-1))


def test_an_empty_queue_has_nothing_to_send():
    assert queue().next_chunk(0.0) is None


DRAWN = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 500),
        st.integers(0, 30_000),
        st.floats(-2, 3),
        st.sampled_from(["north", "south", "east"]),
        st.booleans(),
    ),
    max_size=30,
)


@given(DRAWN, st.sampled_from([1.0, 0.25]), st.booleans(), st.sampled_from([20e3, 200e3, 1e6]))
@settings(max_examples=60)
def test_the_order_is_that_of_the_slow_queue_which_plans_everything(drawn, layer, fair, rate):
    queues = [
        kind(Bandwidth(rate), first_layer=layer, fair=fair) for kind in (LiveQueue, SlowQueue)
    ]
    coming = sorted(
        (at, i, event(f"e{i}", p, j, v, at, is_sent), camera)
        for i, (p, j, v, at, camera, is_sent) in enumerate(drawn)
    )
    now = 0.0
    while True:
        while coming and coming[0][0] <= now:
            _, _, new, camera = coming.pop(0)
            for waiting in queues:
                waiting.add(new, camera)
        fast, slow = (waiting.next_chunk(now) for waiting in queues)
        assert fast == slow
        assert len(queues[0]) == len(queues[1])
        if fast is None:
            if not coming:
                return
            now = coming[0][0]
            continue
        for waiting in queues:
            waiting.sent(fast, fast.size / rate)
        now += fast.size / rate


def test_an_id_that_comes_twice_loses_neither_alert_and_shows_its_newer_visual():
    waiting = queue()
    waiting.add(event("a", 0.9, json=100, visual=5_000))
    waiting.add(event("a", 0.5, json=120, visual=7_000))
    chunks = drained(waiting)
    assert [c.size for _, c in chunks if c.kind == "json"] == [100, 120]
    assert sum(c.size for _, c in chunks if c.kind == "roi") == 7_000


def test_of_two_alerts_of_an_id_the_one_that_went_is_gone():
    waiting = queue()
    waiting.add(event("a", 0.1, json=120, visual=None))
    waiting.add(event("a", 0.9, json=100, visual=None))
    assert [c.size for _, c in drained(waiting)] == [100, 120]


def test_two_alerts_alike_are_two():
    waiting = queue()
    for _ in range(2):
        waiting.add(event("a", visual=None))
    assert [c.kind for _, c in drained(waiting)] == ["json", "json"]


def test_the_lanes_do_not_wait_for_each_other():
    waiting = queue()
    waiting.add(event("a", visual=2_000))
    assert waiting.next_visual(0.0).kind == "roi"
    waiting.sent(waiting.next_visual(0.0))
    assert waiting.next_alert().kind == "json"
    waiting.sent(waiting.next_alert())
    assert waiting.next_alert() is None
    assert (waiting.alerts_waiting, waiting.visuals_waiting) == (0, 0)


def test_a_chunk_is_no_larger_than_the_path_has_room_for_and_never_none():
    waiting = queue()
    waiting.add(event("a", json_sent=True))
    assert waiting.next_visual(0.0, 1_000).size == 1_000
    assert waiting.next_visual(0.0, 1_000_000).size == CHUNK
    assert waiting.next_visual(0.0, 0).size == 1


@pytest.mark.parametrize(
    ("kind", "left"),
    [("json", ["roi"]), ("roi", ["json"]), ("box", ["json", "roi"]), (None, [])],
)
def test_what_is_removed_does_not_go(kind, left):
    waiting = queue()
    waiting.add(event("a", visual=1_000))
    waiting.remove("a", kind)
    waiting.remove("b", kind)
    assert len(waiting) == len(left)
    assert [c.kind for _, c in drained(waiting)] == left


def test_what_was_to_go_next_and_is_removed_or_replaced_does_not_go_next():
    waiting = queue()
    waiting.add(event("first", 0.9, json_sent=True))
    waiting.add(event("second", 0.8, json_sent=True))
    assert waiting.next_visual(0.0).event_id == "first"
    waiting.remove("first")
    assert waiting.next_visual(0.0).event_id == "second"
    waiting.add(event("second", 0.8, visual=500, json_sent=True))
    assert waiting.next_visual(0.0).size == 500
    waiting.add(event("third", 0.9, visual=500, json_sent=True))
    assert waiting.next_visual(0.0).event_id == "third"


def test_a_chunk_of_what_was_removed_or_replaced_is_passed_over():
    waiting = queue()
    waiting.add(event("a", visual=6_000, json_sent=True))
    first = waiting.next_chunk(0.0)
    waiting.sent(first)
    second = waiting.next_chunk(0.0)
    waiting.add(event("a", visual=6_000, json_sent=True))
    waiting.sent(second)
    assert waiting.next_chunk(0.0) == first
    waiting.remove("a")
    waiting.sent(first)
    assert len(waiting) == 0


def test_an_alert_that_was_removed_is_passed_over_and_nothing_stays_of_what_was_sent():
    waiting = queue()
    waiting.add(event("a", visual=None))
    waiting.add(event("b", visual=None))
    removed = waiting.next_alert()
    waiting.remove(removed.event_id)
    waiting.sent(removed)
    assert [c.event_id for _, c in drained(waiting)] == ["b"]
    assert waiting._alerts_of == {}


@pytest.mark.parametrize(("offset", "left"), [(0, 6_000), (5_999, 1), (6_000, 0), (7_000, 0)])
def test_a_visual_goes_on_where_it_arrived(offset, left):
    waiting = queue()
    waiting.add(event("a", visual=6_000, json_sent=True), offset=offset)
    chunks = drained(waiting)
    assert sum(c.size for _, c in chunks) == left
    assert all(c.offset >= offset for _, c in chunks)


def test_a_visual_of_which_the_first_layer_arrived_is_refined():
    waiting = queue(first_layer=0.25)
    waiting.add(event("half", visual=8_000, json_sent=True), offset=2_000)
    waiting.add(event("new", visual=8_000, json_sent=True))
    assert [c.event_id for _, c in drained(waiting)] == ["new", "half", "half", "new", "new"]


def test_a_visual_is_in_time_up_to_its_deadline_and_not_a_byte_beyond():
    # At 10,000 bytes a second, 1.5 s carry 15,000 bytes. Of two that cannot both be in time the
    # denser one is chosen, unless it cannot be in time by itself.
    def first(size):
        waiting = queue(rate=10_000)
        waiting.add(event("large", 1.0, visual=size, json_sent=True))
        waiting.add(event("small", 0.01, visual=2_000, json_sent=True))
        return waiting.next_chunk(0.0).event_id

    assert first(15_000) == "large"
    assert first(15_001) == "small"


def test_over_a_path_half_a_round_trip_counts_as_age():
    path = Path(10_000)
    path.acknowledged(0.0, 0, round_trip=0.2)
    waiting = LiveQueue(path)
    waiting.add(event("large", 1.0, visual=14_500, json_sent=True))
    waiting.add(event("small", 0.01, visual=2_000, json_sent=True))
    assert waiting.next_chunk(0.0).event_id == "small"


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, None])
def test_a_duration_that_is_none_teaches_nothing(seconds):
    waiting = queue(rate=1_000)
    waiting.add(event("a"))
    waiting.sent(waiting.next_chunk(0.0), seconds)
    assert waiting.bandwidth.rate == 1_000


def test_an_outage_leaves_an_estimate_that_can_be_planned_with():
    waiting = queue()
    waiting.bandwidth.sent(0, 1e9)
    waiting.add(event("a", json_sent=True))
    assert waiting.bandwidth.rate == 1.0
    assert waiting.next_chunk(0.0) is not None


def test_a_clock_that_steps_changes_the_order_and_loses_nothing():
    waiting = queue()
    waiting.add(event("before", 0.9, visual=9_000, at=0.0, json_sent=True))
    waiting.sent(waiting.next_chunk(0.0))
    waiting.add(event("after", 0.1, visual=9_000, at=1e9, json_sent=True))
    assert waiting.next_chunk(1e9).event_id == "after"
    waiting.add(event("third", 0.2, visual=1_000, at=-1e9, json_sent=True))
    assert waiting.next_chunk(-1e9).event_id == "third"
    assert sum(c.size for _, c in drained(waiting)) == 9_000 + 9_000 + 1_000 - CHUNK


def crowded(count, captured_at, fair=False):
    waiting = queue(rate=250_000, fair=fair)
    for i in range(count):
        new = event(f"e{i}", (i % 97 + 1) / 100, visual=5_000 + 37 * (i % 1_000))
        waiting.add(replace(new, captured_at=captured_at(i)), f"camera {i % 50}")
    return waiting


@pytest.mark.parametrize("fair", [False, True])
@pytest.mark.parametrize("age", [0.0, 5.0])
def test_the_next_chunk_costs_no_more_with_ten_times_as_many_waiting(age, fair):
    def cost(count):
        waiting = crowded(count, lambda i: -age, fair)
        best = math.inf
        for _ in range(5):  # the least of five: the machine has other work
            waiting.add(event("new"))
            began = time.thread_time()
            waiting.sent(waiting.next_alert())
            waiting.next_visual(0.0)
            best = min(best, time.thread_time() - began)
        return best

    # Today's ratio is about 1; the slow queue's is 10 and more.
    assert cost(20_000) < 4 * cost(2_000) + 0.001


def test_of_many_the_densest_that_can_be_in_time_goes_first():
    late = crowded(5 * PLANNED, lambda i: -10.0)
    late.add(event("young", 0.001, visual=30_000, json_sent=True))
    assert late.next_visual(0.0).event_id == "young"
    young = crowded(20 * PLANNED, lambda i: 0.0)
    young.add(event("dense", 1.0, visual=500, json_sent=True))
    assert young.next_visual(0.0).event_id == "dense"


def test_of_more_than_are_planned_the_densest_are_though_it_came_last():
    waiting = queue(rate=250_000)
    for i in range(PLANNED + 20):
        waiting.add(event(f"e{i}", 0.5, visual=20_000, json_sent=True))
    waiting.add(event("dense", 1.0, visual=5_000, json_sent=True))
    assert waiting.next_visual(0.2).event_id == "dense"


def test_of_visuals_alike_the_first_added_goes_first_whichever_is_older():
    waiting = queue()
    waiting.add(event("added first", at=0.1, json_sent=True))
    waiting.add(event("older", at=0.0, json_sent=True))
    assert waiting.next_visual(0.2).event_id == "added first"


def test_where_all_the_densest_are_late_the_newest_are_looked_at():
    waiting = queue(rate=250_000)
    for i in range(1_000):
        waiting.add(event(f"late {i}", 1.0, visual=100, at=-10.0, json_sent=True))
        waiting.add(event(f"young {i}", 0.1, visual=9_000, json_sent=True))
    assert waiting.next_visual(0.0).event_id.startswith("young")
