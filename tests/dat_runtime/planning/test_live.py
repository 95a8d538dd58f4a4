import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.planning.live import CHUNK, Bandwidth, LiveQueue
from dat_runtime.schedule import PendingEvent


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
    def order(fair):
        waiting = queue(fair=fair)
        for i in range(4):
            waiting.add(event(f"busy {i}", 0.9, visual=1_000, json_sent=True), "busy")
        waiting.add(event("quiet", 0.5, visual=1_000, json_sent=True), "quiet")
        return [c.event_id for _, c in drained(waiting)]

    assert order(fair=False)[-1] == "quiet"
    assert order(fair=True).index("quiet") == 1


def test_the_bandwidth_follows_what_was_really_sent():
    bandwidth = Bandwidth(initial=1e6)
    for _ in range(1_000):
        bandwidth.sent(4_000, 0.02)
    assert math.isclose(bandwidth.estimate, 200_000, rel_tol=1e-6)


@pytest.mark.parametrize("initial", [0, -1, math.nan, math.inf])
def test_a_bandwidth_that_is_none_is_refused(initial):
    with pytest.raises(ValueError, match="initial"):
        Bandwidth(initial)


def test_a_bad_event_is_refused_by_the_name_of_its_field():
    with pytest.raises(ValueError, match="roi_bytes"):
        queue().add(event("a", visual=-1))


def test_an_empty_queue_has_nothing_to_send():
    assert queue().next_chunk(0.0) is None
